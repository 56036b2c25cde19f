/** RC2 in CBC mode (RFC 2268), for reading what PDFBox and programs of old wrote: OpenSSL's default provider has it no more. */
/** RFC 2268 §2: a permutation of 0 to 255 from the digits of π. */
const PI = Buffer.from(
  'd978f9c419ddb5ed28e9fd794aa0d89dc67e37832b76538e624c6488448bfba2179a59f587b34f1361456d8d09817d32bd8f40eb86b77b0bf09521225c6b4e82' +
    '54d66593ce60b21c7356c014a78cf1dc1275ca1f3bbee4d1423dd430a33cb6266fbf0eda4669075727f21d9bbc944303f811c7f690ef3ee706c3d52fc8661ed7' +
    '08e8eade8052eef784aa72ac354d6a2a961ad2715a1549744b9fd05e0418a4ecc2e0416e0f51cbcc2491af50a1f47039997c3a8523b8b47afc02365b25559731' +
    '2d5dfa98e38a92ae05df2910676cbac9d300e6cfe19ea82c6316013f58e289a90d38341bab33ffb0bb480c5fb9b1cd2ec5f3db47e5a59c770aa62068fe7fc1ad',
  'hex',
);

function expanded(key: Buffer, effectiveBits: number): Uint16Array {
  const bytes = Buffer.alloc(128);
  key.copy(bytes);
  const at = (index: number) => PI[index & 0xff] ?? 0;
  for (let i = key.length; i < 128; i++) bytes[i] = at((bytes[i - 1] ?? 0) + (bytes[i - key.length] ?? 0));
  const length = (effectiveBits + 7) >> 3;
  bytes[128 - length] = at((bytes[128 - length] ?? 0) & (0xff >> (8 * length - effectiveBits)));
  for (let i = 127 - length; i >= 0; i--) bytes[i] = at((bytes[i + 1] ?? 0) ^ (bytes[i + length] ?? 0));
  return Uint16Array.from({ length: 64 }, (_, index) => bytes.readUInt16LE(2 * index));
}

const SHIFTS = [1, 2, 3, 5] as const;

function openBlock(words: Uint16Array, block: Buffer): Buffer {
  const r = Uint16Array.from([0, 2, 4, 6], (at) => block.readUInt16LE(at));
  const get = (index: number) => r[index & 3] ?? 0;
  let next = 63;
  const mix = () => {
    for (let i = 3; i >= 0; i--) {
      const shift = SHIFTS[i] ?? 1;
      const rotated = ((get(i) >>> shift) | (get(i) << (16 - shift))) & 0xffff;
      r[i] = rotated - (words[next--] ?? 0) - (get(i + 3) & get(i + 2)) - (~get(i + 3) & get(i + 1));
    }
  };
  const mash = () => {
    for (let i = 3; i >= 0; i--) r[i] = get(i) - (words[get(i + 3) & 63] ?? 0);
  };
  for (let round = 0; round < 16; round++) {
    mix();
    if (round === 4 || round === 10) mash();
  }
  const out = Buffer.alloc(8);
  r.forEach((word, index) => {
    out.writeUInt16LE(word, 2 * index);
  });
  return out;
}

/** Undefined where the padding does not fit. */
export function openRc2(key: Buffer, effectiveBits: number, iv: Buffer, encrypted: Buffer): Buffer | undefined {
  if (encrypted.length === 0 || encrypted.length % 8 !== 0 || iv.length !== 8) return undefined;
  const words = expanded(key, effectiveBits);
  const plain = Buffer.alloc(encrypted.length);
  let before = iv;
  for (let at = 0; at < encrypted.length; at += 8) {
    const block = encrypted.subarray(at, at + 8);
    openBlock(words, block).forEach((octet, index) => {
      plain[at + index] = octet ^ (before[index] ?? 0);
    });
    before = block;
  }
  const padding = plain.at(-1) ?? 0;
  if (padding < 1 || padding > 8 || plain.subarray(-padding).some((octet) => octet !== padding)) return undefined;
  return plain.subarray(0, -padding);
}
