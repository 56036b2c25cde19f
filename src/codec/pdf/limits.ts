/** What a document may ask of us. Each is far above what documents have, and low enough for 2 s and 150 MB. */
export const LIMITS = {
  /** Highest object number: ISO 32000-1 Annex C. */
  objects: 8_388_607,
  /** Arrays and dictionaries inside one another. */
  depth: 200,
  /** Values in one object, keys among them: more than page references stand in the longest arrays. */
  values: 500_000,
  /** Bytes of one object without its stream. */
  objectBytes: 8 * 2 ** 20,
  /** Bytes of one cross-reference or object stream, inflated. */
  inflatedBytes: 16 * 2 ** 20,
  /** Bytes of all of them: this much, and so many times the file's size. Real ones inflate by 4 to 15. */
  inflatedTotal: 24 * 2 ** 20,
  inflatedRatio: 30,
  /** Sections of cross-references: one for each saved change. */
  sections: 4096,
  /** How many times the file's size its objects may be, where they overlap. */
  overlap: 2,
  /** Recipients that one document names. */
  recipients: 2000,
  /** Bytes of the lists of recipients. */
  recipientBytes: 4 * 2 ** 20,
} as const;
