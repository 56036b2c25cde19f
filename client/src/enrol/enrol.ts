import { constants, generateKeyPair, type KeyObject, privateDecrypt, sign } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { thumbprint } from '../../../src/codec/jwk.js';
import { base64url, canonicalJson, Fault, isFault, parseAddress, sha256 } from '../../../src/foundation/index.js';
import type { Mailbox } from '../mailbox/index.js';
import { type AppCredential, EkmsClient, type Enrolled, isProblem, parseServer } from '../sdk/index.js';
import type { State, Store } from '../store/index.js';
import { type Certificate, certificationRequest, chainToRoot, isSelfSigned, readCertificate, readPem } from '../x509/index.js';
import { Answer, type Begun, type EnrolmentAsk, type Patience, type Say, spkiOf } from './answer.js';
import { type Challenge, claimsChallenge, readChallenge } from './challenge.js';

const PATIENCE: Patience = { mailMs: 60_000, approvalMs: 600_000, pollMs: 500 };

const newKeyPair = promisify(generateKeyPair);

/** The pinned root: one self-signed certificate, the one that the app credential names. */
export function pinnedRoot(pem: string, app: AppCredential): Certificate {
  const [root, ...more] = readPem(pem);
  if (!root || more.length > 0 || !isSelfSigned(root))
    throw new Fault('misconfigured', 'ca-malformed', 'the --ca file must hold exactly one certificate, the root (ca.pem of the appliance)');
  if (base64url(sha256(root.der)) !== app.ca)
    throw new Fault(
      'forbidden',
      'ca-foreign',
      'the --ca file is not the root that the app credential names: get both anew from IT, and enrol nothing until they fit',
    );
  return root;
}

/** Enrols this device and keeps it in `store`; until the very end nothing of it is on disk (docs/formats/enrolment.md). */
export async function enrol(ask: EnrolmentAsk, store: Store, say: Say, now: () => Date, patience: Patience = PATIENCE): Promise<State> {
  const { hostname } = parseServer(ask.server);
  if (hostname !== ask.app.server.toLowerCase())
    throw new Fault(
      'forbidden',
      'server-foreign',
      `the app credential is for the server "${ask.app.server}", not for "${hostname}": use that name in --server`,
    );
  return store.locked(async () => {
    await store.assertVacant();
    const client = new EkmsClient({ server: ask.server, root: ask.root.pem }, now);
    try {
      const mailbox = 'mailbox' in ask.half ? await ask.half.mailbox() : undefined;
      try {
        const begun = await begin(ask, client);
        const answer = new Answer(ask, begun, client, say, patience);
        const device = mailbox
          ? await fromMailbox(mailbox, ask, answer, say, now, patience)
          : await answer.give('code' in ask.half ? ask.half.code : '');
        return await keep(ask, begun, device, store, now());
      } finally {
        await mailbox?.close();
      }
    } finally {
      client.close();
    }
  });
}

async function begin(ask: EnrolmentAsk, client: EkmsClient): Promise<Begun> {
  const identity = (await newKeyPair('ec', { namedCurve: 'P-256' })).privateKey;
  const delivery = (await newKeyPair('rsa', { modulusLength: 3072 })).privateKey;
  const asked = await client.requestEnrolment(ask.app, {
    address: ask.address,
    csr: certificationRequest(identity, 'mesign'),
    delivery: spkiOf(delivery),
    platform: ask.app.platform,
    ...(ask.name && { name: ask.name }),
    ...(ask.registration && { registration: registrationOf(ask, identity, delivery) }),
  });
  return { identity, delivery, id: asked.id, half2: asked.half, nonce: openNonce(delivery, asked.nonce) };
}

/** docs/formats/enrolment.md §1. */
function registrationOf({ registration, address, app }: EnrolmentAsk, identity: KeyObject, delivery: KeyObject) {
  if (!registration || 'identifier' in registration) return registration;
  const statement = canonicalJson({
    v: 1,
    use: 'ekms-registered-device',
    address: parseAddress(address).key,
    jkt: thumbprint(spkiOf(identity)),
    delivery: base64url(sha256(spkiOf(delivery))),
    server: app.ca,
  });
  return {
    certificate: registration.certificate.toString('base64'),
    signature: sign('sha256', Buffer.from(statement), registration.key).toString('base64'),
  };
}

function openNonce(delivery: KeyObject, nonce: string): string {
  try {
    const options = { key: delivery, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' };
    return base64url(privateDecrypt(options, Buffer.from(nonce, 'base64')));
  } catch {
    throw new Fault('unavailable', 'answer-malformed', 'the nonce that the server sent is not for this device');
  }
}

/** Tries the rightly signed challenges in the mailbox, newest first, until one is the right one. */
async function fromMailbox(
  mailbox: Mailbox,
  ask: EnrolmentAsk,
  answer: Answer,
  say: Say,
  now: () => Date,
  patience: Patience,
): Promise<Enrolled> {
  const until = Date.now() + patience.mailMs;
  let refusal = '';
  for (let isFirst = true; ; isFirst = false) {
    const challenges: Challenge[] = [];
    for (const mail of await mailbox.unseen()) {
      try {
        challenges.push(readChallenge(mail, ask.address, ask.root, now()));
      } catch (error) {
        if (!isFault(error)) throw error;
        if (claimsChallenge(mail)) refusal = ` A mail that looked like it was not accepted: ${error.message}.`;
      }
    }
    for (const { half } of challenges.toSorted((a, b) => b.date.getTime() - a.date.getTime())) {
      try {
        return await answer.give(half);
      } catch (error) {
        // One live mail serves every enrolment of an address, so an older one may lie beside it.
        if (!isProblem(error, 'answer-wrong')) throw error;
        refusal = ` The appliance did not accept the mail that was there: ${error.message}.`;
      }
    }
    if (Date.now() >= until)
      throw new Fault('unavailable', 'challenge-missing', `no valid challenge mail for ${ask.address} arrived in time.${refusal}`);
    if (isFirst) say('waiting for the challenge mail …');
    await sleep(patience.pollMs);
  }
}

async function keep(ask: EnrolmentAsk, begun: Begun, device: Enrolled, store: Store, now: Date): Promise<State> {
  const [own, ...among] = device.certificates.map((pem) => readCertificate(pem));
  if (!own?.spki.equals(spkiOf(begun.identity)))
    throw new Fault(
      'forbidden',
      'device-certificate-foreign',
      'the device certificate that the server sent is not for the key of this device',
    );
  chainToRoot({ leaf: own, among, root: ask.root, at: now });
  const state: State = {
    v: 1,
    server: ask.server,
    address: parseAddress(ask.address).shown,
    device: device.device,
    employee: device.employee,
    root: ask.root.pem,
    certificates: [own, ...among].map((certificate) => certificate.pem),
    identityKey: kept(begun.identity),
    deliveryKey: kept(begun.delivery),
    keys: [],
  };
  await store.create(state);
  return state;
}

const kept = (key: KeyObject): string => key.export({ type: 'pkcs8', format: 'der' }).toString('base64');
