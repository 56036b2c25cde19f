import type { KeyKind, SigningKeyName } from '../hsm.js';
import { Token } from '../token.js';

/** Milliseconds that a caller waits in all, the queue included. */
export const CALL_MS = 5_000;
const MAKE_PAIR_MS = 65_000;

/** `Token` over one call with a name and arguments, in whatever way those reach a warden. */
export abstract class TokenCalls extends Token {
  protected abstract call(op: string, args: unknown, limitMs?: number): Promise<unknown>;

  override health() {
    return this.answer<'health'>('health', {});
  }

  override inspect() {
    return this.answer<'inspect'>('inspect', {}, MAKE_PAIR_MS);
  }

  override signingKey(name: SigningKeyName) {
    return this.answer<'signingKey'>('signingKey', { name });
  }

  override certificates() {
    return this.answer<'certificates'>('certificates', {});
  }

  override authorities() {
    return this.answer<'authorities'>('authorities', {});
  }

  override makePair(kind: KeyKind) {
    return this.answer<'makePair'>('makePair', { kind }, MAKE_PAIR_MS);
  }

  override assign(...[pair, to]: Parameters<Token['assign']>) {
    return this.answer<'assign'>('assign', { pair, to });
  }

  override changeKey(...[key, to]: Parameters<Token['changeKey']>) {
    return this.answer<'changeKey'>('changeKey', { key, to });
  }

  override async seal(...[record, predecessor]: Parameters<Token['seal']>) {
    // The record that comes back is the one that went in, so its type is the caller's.
    return (await this.call('seal', { record, predecessor })) as never;
  }

  override raise(...[sealed]: Parameters<Token['raise']>) {
    return this.answer<'raise'>('raise', { sealed });
  }

  override block(id: string) {
    return this.answer<'block'>('block', { id });
  }

  override unblock(id: string) {
    return this.answer<'unblock'>('unblock', { id });
  }

  override hold(id: string) {
    return this.answer<'hold'>('hold', { id });
  }

  override unhold(id: string) {
    return this.answer<'unhold'>('unhold', { id });
  }

  override endBootstrap() {
    return this.answer<'endBootstrap'>('endBootstrap', {});
  }

  override bootstrapIsOver() {
    return this.answer<'bootstrapIsOver'>('bootstrapIsOver', {});
  }

  override release(...[key, blob, device, member]: Parameters<Token['release']>) {
    return this.answer<'release'>('release', { key, blob, device, ...(member ? { member } : {}) });
  }

  override decrypt(...[key, blob, device, ask, member]: Parameters<Token['decrypt']>) {
    return this.answer<'decrypt'>('decrypt', { key, blob, device, ask, ...(member ? { member } : {}) });
  }

  override issueDevice(...[ask]: Parameters<Token['issueDevice']>) {
    return this.answer<'issueDevice'>('issueDevice', ask);
  }

  override issuePerson(...[ask]: Parameters<Token['issuePerson']>) {
    return this.answer<'issuePerson'>('issuePerson', ask);
  }

  override issueInfrastructure(...[ask]: Parameters<Token['issueInfrastructure']>) {
    return this.answer<'issueInfrastructure'>('issueInfrastructure', ask);
  }

  override issueCrl(...[ask]: Parameters<Token['issueCrl']>) {
    return this.answer<'issueCrl'>('issueCrl', ask);
  }

  override async renew(...[sealed, blob]: Parameters<Token['renew']>) {
    // The record that comes back is of the type that went in.
    return (await this.call('renew', { sealed, blob }, MAKE_PAIR_MS)) as never;
  }

  override rotateKek() {
    return this.answer<'rotateKek'>('rotateKek', {}, MAKE_PAIR_MS);
  }

  override destroyKek(kek: string) {
    return this.answer<'destroyKek'>('destroyKek', { kek }, MAKE_PAIR_MS);
  }

  override tokenKeys() {
    return this.answer<'tokenKeys'>('tokenKeys', {});
  }

  override succeedKey(...[name, n, urls]: Parameters<Token['succeedKey']>) {
    return this.answer<'succeedKey'>('succeedKey', { name, n, urls }, MAKE_PAIR_MS);
  }

  override retireAuthority(...[name, n]: Parameters<Token['retireAuthority']>) {
    return this.answer<'retireAuthority'>('retireAuthority', { name, n }, MAKE_PAIR_MS);
  }

  override prepareAuthority(...[name, n, urls]: Parameters<Token['prepareAuthority']>) {
    return this.answer<'prepareAuthority'>('prepareAuthority', { name, n, urls }, MAKE_PAIR_MS);
  }

  override prepareAuditKey(n: number) {
    return this.answer<'prepareAuditKey'>('prepareAuditKey', { n }, MAKE_PAIR_MS);
  }

  override succeedAuditKey(...[n, head, announcement]: Parameters<Token['succeedAuditKey']>) {
    return this.answer<'succeedAuditKey'>('succeedAuditKey', { n, head, announcement }, MAKE_PAIR_MS);
  }

  override auditSuccessions() {
    return this.answer<'auditSuccessions'>('auditSuccessions', {});
  }

  override retireKey(...[name]: Parameters<Token['retireKey']>) {
    return this.answer<'retireKey'>('retireKey', { name }, MAKE_PAIR_MS);
  }

  override look(...[file, phrase, take]: Parameters<Token['look']>) {
    return this.answer<'look'>('look', { file, phrase, take }, MAKE_PAIR_MS);
  }

  override adopt(...[found, to]: Parameters<Token['adopt']>) {
    return this.answer<'adopt'>('adopt', { found, to });
  }

  override makeTransferKey(...[ask]: Parameters<Token['makeTransferKey']>) {
    return this.answer<'makeTransferKey'>('makeTransferKey', ask, MAKE_PAIR_MS);
  }

  override transferOut(...[ask]: Parameters<Token['transferOut']>) {
    return this.answer<'transferOut'>('transferOut', ask, MAKE_PAIR_MS);
  }

  override takeIn(...[ask]: Parameters<Token['takeIn']>) {
    return this.answer<'takeIn'>('takeIn', ask, MAKE_PAIR_MS);
  }

  override appoint(...[ask]: Parameters<Token['appoint']>) {
    return this.answer<'appoint'>('appoint', ask);
  }

  override recover(...[ask]: Parameters<Token['recover']>) {
    return this.answer<'recover'>('recover', ask);
  }

  override attest(...[kind, statement]: Parameters<Token['attest']>) {
    return this.answer<'attest'>('attest', { kind, statement });
  }

  override custody() {
    return this.answer<'custody'>('custody', {});
  }

  /** In parts: a frame of the channel has its limit, the journal of a large organisation has none. */
  override async journalCopy() {
    const parts: Buffer[] = [];
    for (let [from, size, copy] = [0, 1, 0]; from < size; ) {
      const part = (await this.call('journalCopy', { from, copy })) as { size: number; copy: number; bytes: Buffer }; // what desk.ts answers
      parts.push(part.bytes);
      from += part.bytes.length;
      ({ size, copy } = part);
    }
    return Buffer.concat(parts);
  }

  override auditHead() {
    return this.answer<'auditHead'>('auditHead', {});
  }

  override signHead(...[ask]: Parameters<Token['signHead']>) {
    return this.answer<'signHead'>('signHead', ask);
  }

  override beginOrigin(...[ask]: Parameters<Token['beginOrigin']>) {
    return this.answer<'beginOrigin'>('beginOrigin', ask);
  }

  override vouchAuditKey(origin: string) {
    return this.answer<'vouchAuditKey'>('vouchAuditKey', { origin });
  }

  override witnessedHead(origin: string) {
    return this.answer<'witnessedHead'>('witnessedHead', { origin });
  }

  override cosign(...[ask]: Parameters<Token['cosign']>) {
    return this.answer<'cosign'>('cosign', ask);
  }

  override signMail(message: Uint8Array) {
    return this.answer<'signMail'>('signMail', { message });
  }

  override sealBytes(plaintext: Uint8Array, context: string) {
    return this.answer<'sealBytes'>('sealBytes', { plaintext, context });
  }

  override openBytes(sealed: Uint8Array, context: string) {
    return this.answer<'openBytes'>('openBytes', { sealed, context });
  }

  /** The cast: whoever answers is trusted more than we are, and answers in the shapes of `Token`. */
  private async answer<Op extends keyof Token>(op: Op, args: unknown, limitMs = CALL_MS): Promise<Awaited<ReturnType<Token[Op]>>> {
    return (await this.call(op, args, limitMs)) as Awaited<ReturnType<Token[Op]>>;
  }
}
