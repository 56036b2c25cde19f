import { readFileSync } from 'node:fs';
import {
  C2spWitness,
  FolderWitness,
  type HeadMail,
  type LogStanding,
  type LogTree,
  type TileReader,
  TimeStamps,
  type Witness,
  Witnesses,
} from '../audit/index.js';
import { keysOfLog, verifyByWebCrypto } from '../codec/merkle/index.js';
import { authoritiesIn } from '../codec/timestamp.js';
import type { Configuration } from '../configuration/index.js';
import { type AuditLog, type Clock, Fault, type Storage, sha256 } from '../foundation/index.js';
import type { Mailer } from '../mail/index.js';
import { auditNoteKey, type Token } from '../tokens/index.js';

/** The witnesses that ekms.yaml names. */
export function witnessesOf(
  { witnesses: { readable, ...settings } }: Pick<Configuration, 'witnesses'>,
  parts: {
    storage: Storage;
    audit: AuditLog;
    tree: LogTree;
    tiles: TileReader;
    standing: LogStanding;
    token: Pick<Token, 'auditHead' | 'signingKey' | 'auditSuccessions'>;
  },
  origin: string,
): Witnesses {
  const { token, ...rest } = parts;
  const witnesses = readable.map((one): Witness => {
    if ('folder' in one)
      return new FolderWitness(one.name, one.folder, async (of) =>
        keysOfLog(
          (bytes) => sha256(bytes),
          verifyByWebCrypto,
          auditNoteKey(of, await token.signingKey('audit')),
          await token.auditSuccessions(),
        ),
      );
    const { caFile, ...of } = one;
    return new C2spWitness({ ...of, ca: caFile === undefined ? undefined : readFileSync(caFile, 'utf8') });
  });
  return new Witnesses({ ...rest, origin: async () => (await token.auditHead())?.origin ?? origin }, { ...settings, witnesses });
}

/** Days that a mail with a head is tried for. */
const HEAD_MAIL_DAYS = 7;

/** Heads by signed mail to whom `witnesses.archive.mail` names. */
export function headMail({ publicName, witnesses: { archive } }: Configuration, mailer: Mailer, clock: Clock): HeadMail | undefined {
  if (archive.mail.length === 0) return undefined;
  return async (note) => {
    const expires = clock.now().getTime() + HEAD_MAIL_DAYS * 86_400_000;
    const text = `This is the head of the log of ${publicName}. Keep it: ekms audit verify --head FILE holds a later export against it.\n\n${note}`;
    const mails = await Promise.all(
      archive.mail.map((to) => mailer.prepare({ kind: 'announcement', to, subject: `Head of the log of ${publicName}`, text, expires })),
    );
    return async (unit) => {
      for (const one of mails) await mailer.enqueue(unit, one);
    };
  };
}

/** Time stamps of heads, where `witnesses.timestamp` names an authority. */
export function timeStampsOf(
  { witnesses: { timestamp } }: Pick<Configuration, 'witnesses'>,
  parts: ConstructorParameters<typeof TimeStamps>[0],
): TimeStamps {
  if (!timestamp) return new TimeStamps(parts, undefined);
  const { authoritiesFile, ...of } = timestamp;
  const authorities = authoritiesIn(readFileSync(authoritiesFile, 'utf8'));
  if (authorities.length === 0)
    throw new Fault(
      'misconfigured',
      'configuration-invalid',
      `witnesses.timestamp.authoritiesFile: ${authoritiesFile} holds no certificate`,
    );
  return new TimeStamps(parts, { ...of, authorities });
}
