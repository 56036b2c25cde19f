import { readFileSync, statSync } from 'node:fs';
import { type RevocationList, readRevocationList } from '../codec/x509/index.js';
import { Fault } from '../foundation/index.js';

const PEM = /-----BEGIN X509 CRL-----([^-]+)-----END X509 CRL-----/g;

/**
 * The device management's revocation lists, from a file that the organisation renews where it stands: PEM, one list or several, or one DER. A file that was
 * changed is read again at the next question. A new file that says nothing leaves the former lists, which end by their own `nextUpdate`.
 */
export class DeviceRevocations {
  #lists: readonly RevocationList[] = [];
  #read = '';

  private constructor(
    private readonly file: string,
    private readonly authorities: readonly Buffer[],
  ) {}

  /** Rejects with `device-revocations-malformed` when the file holds no list of these authorities. */
  static async open(file: string, authorities: readonly Buffer[]): Promise<DeviceRevocations> {
    const revocations = new DeviceRevocations(file, authorities);
    if ((await revocations.current()).length === 0)
      throw new Fault(
        'misconfigured',
        'device-revocations-malformed',
        `enrolment.deviceRevocationsFile (${file}) holds no complete revocation list that one of enrolment.deviceAuthoritiesFile signed`,
      );
    return revocations;
  }

  /** Whether they are in time is for whoever asks. */
  async current(): Promise<readonly RevocationList[]> {
    const stamp = stampOf(this.file);
    if (stamp !== undefined && stamp !== this.#read) {
      const found = await Promise.all(listsIn(readFileSync(this.file)).map((der) => readRevocationList(der, this.authorities)));
      const lists = found.filter((list) => list !== undefined);
      if (lists.length > 0) this.#lists = lists.sort((a, b) => b.thisUpdate.getTime() - a.thisUpdate.getTime());
      this.#read = stamp;
    }
    return this.#lists;
  }
}

function listsIn(bytes: Buffer): Buffer[] {
  const pems = [...bytes.toString('latin1').matchAll(PEM)];
  return pems.length === 0 ? [bytes] : pems.map(([, base64 = '']) => Buffer.from(base64, 'base64'));
}

/** What a change of the file changes; undefined while it is not there, as between the two steps of a careless renewal. */
function stampOf(file: string): string | undefined {
  const stat = statSync(file, { bigint: true, throwIfNoEntry: false });
  return stat && `${stat.ino} ${stat.size} ${stat.mtimeNs}`;
}
