/**
 * What went wrong, in terms of the caller. It becomes an RFC 9457 problem document only in `http/`, and a sentence only in `commands/`.
 * Whatever is thrown and is not a Fault is a defect of ours.
 */
export type FaultKind =
  | 'malformed'
  | 'unauthenticated'
  | 'forbidden'
  | 'not-found'
  | 'conflict'
  | 'gone'
  | 'too-large'
  | 'unprocessable'
  | 'too-many'
  | 'unavailable'
  | 'misconfigured';

export class Fault extends Error {
  override readonly name = 'Fault';
  /**
   * @param code stable, kebab-case; scripts and audit entries rely on it
   * @param message one sentence for a person; never holds a secret
   * @param retryAfter seconds until another try makes sense
   */
  constructor(
    readonly kind: FaultKind,
    readonly code: string,
    message: string,
    readonly retryAfter?: number,
  ) {
    super(message);
  }
}

export function isFault(error: unknown, code?: string): error is Fault {
  return error instanceof Fault && (code === undefined || error.code === code);
}
