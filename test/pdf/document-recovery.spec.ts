import { expect, jest, test } from '@jest/globals';
import { namesOf } from '../../src/codec/cms/index.js';
import { onNewPostgres } from '../audit/new-postgres.js';
import { type Field, form } from '../support/form.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { richPdf } from '../support/rich-pdf.js';
import { refusal, send } from '../support/wire.js';
import { enrolDevice, keysOf } from '../support/wire-device.js';

jest.setTimeout(120_000);
const ALL = 'documents@corp.example';

type Recovery = { current: string | null; certificates: string[] };
type Readers = { readers: { serial: string; is: string | null }[] };

/** The life of the organisation as a reader, as the database has it. What the token does with its key is test/e2e/recovery's and test/tokens/recovery's. */
async function story(database: object): Promise<void> {
  const house = await HouseInProcess.open({ settings: { keys: { bits: 2048, pool: { target: 3 } }, ...database } });
  try {
    // Agents are named at a ceremony, which this house had not.
    jest.spyOn(house.house.recoveryAgents, 'inForce').mockResolvedValue({ version: 1, agents: { quorum: 2, agents: [] } });
    const alice = await enrolDevice(house, 'alice@corp.example');
    await keysOf(house, alice);
    const ask = (method: string, path: string, fields?: readonly Field[]) =>
      send({
        ...{ port: house.port, root: house.root, method, path },
        ...(fields ? form(fields) : {}),
        identity: { certificates: alice.certificates, key: alice.keys.identity },
      });
    const pdf = await richPdf();
    const encrypted = () =>
      ask('POST', '/v1/pdf/encryptions', [
        ['recipients', 'alice@corp.example'],
        ['file', { file: 'a.pdf', bytes: pdf }],
      ]);
    const recovery = async () => (await ask('GET', '/v1/pdf/recovery')).json as Recovery;
    const readers = async (bytes: Buffer) =>
      ((await ask('POST', '/v1/pdf/readers', [['file', { file: 'a.pdf', bytes }]])).json as Readers).readers.filter(
        ({ is }) => is === 'recovery',
      );
    const serialOf = (pem: string | null) =>
      namesOf(Buffer.from(`${pem}`.replace(/-----[^-]+-----/g, ''), 'base64')).serial.toString('hex');

    expect([await recovery(), await readers((await encrypted()).body)]).toMatchObject([{ current: null, certificates: [] }, []]);
    await expect(house.act('documents.recovery-on', { address: 'd@elsewhere.example' })).rejects.toMatchObject({
      code: 'domain-not-served',
    });
    await house.act('documents.recovery-on', { address: ALL });
    const first = await recovery();
    expect(first).toEqual({ ...first, current: first.certificates[0] });
    expect(await readers((await encrypted()).body)).toMatchObject([{ serial: serialOf(first.current) }]);

    await house.act('key.replace', { address: ALL, because: 'superseded' });
    let second = await recovery();
    expect([second.certificates.length, second.current === first.current]).toEqual([2, false]);
    const later = await encrypted();
    expect(await readers(later.body)).toMatchObject([{ serial: serialOf(second.current) }]);
    for (const { mode } of await house.db.all<{ mode: string }>(
      'SELECT k.mode AS "mode" FROM keys k JOIN bindings b ON b.employee = k.employee WHERE b.address = ?',
      [ALL],
    ))
      expect(mode).toBe('quorum');

    // A row does not end it, the seal's own neither.
    const reader = `(SELECT employee FROM bindings WHERE address = '${ALL}')`;
    const sealed = await house.db.one<{ value: string }>("SELECT value FROM settings WHERE name = 'access.document-reader'");
    for (const sql of [
      `UPDATE employees SET mode = NULL WHERE id = ${reader}`,
      "DELETE FROM settings WHERE name = 'access.document-reader'",
    ]) {
      await house.db.write((unit) => unit.run(sql));
      expect((await recovery()).current).toBe(second.current);
      await house.act('key.replace', { address: ALL, because: 'superseded' });
      second = await recovery();
      expect(await readers((await encrypted()).body)).toMatchObject([{ serial: serialOf(second.current) }]);
      expect(await house.db.all(`SELECT DISTINCT mode AS "mode" FROM keys WHERE employee = ${reader}`)).toEqual([{ mode: 'quorum' }]);
    }
    await house.db.write((unit) =>
      unit.run("INSERT INTO settings (name, value) VALUES ('access.document-reader', ?)", [
        (sealed?.value ?? '').replace('documents@', 'd@'),
      ]),
    );
    expect(refusal(await encrypted())).toBe('403 record-forged');
    await house.db.write((unit) => unit.run("UPDATE settings SET value = ? WHERE name = 'access.document-reader'", [sealed?.value ?? '']));
    await house.db.write((unit) => unit.run(`UPDATE employees SET mode = 'quorum' WHERE id = ${reader}`));

    // Nothing is encrypted without it while it is on.
    await house.db.write((unit) => unit.run('UPDATE certificates SET revoked_at = 1, reason = 0 WHERE address = ?', [ALL]));
    expect([refusal(await encrypted()), refusal(await ask('GET', '/v1/pdf/recovery'))]).toEqual([
      '503 document-recovery-missing',
      '503 document-recovery-missing',
    ]);
    await expect(house.act('binding.end', { address: ALL })).rejects.toMatchObject({ code: 'address-reserved' });
    await house.act('documents.recovery-off', {});
    expect((await encrypted()).status).toBe(200);
    expect(await readers(later.body)).toHaveLength(1);
    await expect(house.act('documents.recovery-off', {})).rejects.toMatchObject({ code: 'document-recovery-off' });
    expect(house.defects).toEqual([]);
  } finally {
    await house.close();
  }
}

test('the organisation reads while it is on, by its newest certificate; nothing is encrypted without it then', () => story({}));

(process.env['EKMS_TEST_POSTGRES'] ? test : test.skip)('the same on PostgreSQL', () =>
  onNewPostgres((url) => story({ database: { url } })),
);
