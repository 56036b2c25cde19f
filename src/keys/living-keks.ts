import { Fault, type Reader, type Unit } from '../foundation/index.js';

/** In `settings`: the lowest KEK that may still be in the token. */
const OLDEST = 'keys.oldest-kek';

/** Before KEKs are destroyed, in the unit that saw that nothing is under them: what was wrapped under one of them and comes later is refused. */
export async function endKeksBefore(unit: Unit, kek: string): Promise<void> {
  await unit.run('INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value', [OLDEST, kek]);
}

/**
 * Throws `kek-destroyed` where the KEK that a new key or pair is wrapped under is gone: it was under way (a second place that hung) longer than its KEK
 * lived. In the unit that would store it: nobody may be given a certificate for what nothing can open.
 */
export async function requireLivingKek(reader: Reader, kek: string): Promise<void> {
  const row = await reader.one<{ value: string }>('SELECT value FROM settings WHERE name = ?', [OLDEST]);
  if (Number(kek) < Number(row?.value ?? 0))
    throw new Fault(
      'unavailable',
      'kek-destroyed',
      'this key was wrapped under a key-encryption key that was destroyed while it was under way: ask again, and another is made',
      1,
    );
}
