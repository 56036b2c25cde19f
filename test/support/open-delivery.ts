import { execFileSync } from 'node:child_process';
import { createPrivateKey, type KeyObject } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The PKCS#8 in a delivery, opened by an unmodified openssl and the device's delivery key. Throws where it does not open. */
export function openDelivery(delivery: Buffer, deliveryKey: KeyObject): Buffer {
  const folder = mkdtempSync(join(tmpdir(), 'ekms-delivery-'));
  try {
    writeFileSync(join(folder, 'delivery.der'), delivery);
    writeFileSync(join(folder, 'key.pem'), deliveryKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
    const words = ['cms', '-decrypt', '-inform', 'DER', '-binary', '-in', 'delivery.der', '-inkey', 'key.pem'];
    const pkcs8 = execFileSync('openssl', words, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
    // Without -debug_decrypt openssl goes on with a random content key where the right one is not found (RFC 3218 §2.3.2).
    if (pkcs8.length === 0) throw new Error('openssl opened nothing');
    return pkcs8;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export const openKey = (delivery: string | null, deliveryKey: KeyObject): KeyObject =>
  createPrivateKey({ key: openDelivery(Buffer.from(delivery ?? '', 'base64'), deliveryKey), format: 'der', type: 'pkcs8' });
