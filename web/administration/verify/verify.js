import { verifyEvidence, verifyExport } from '/verify/codec/audit-log/index.js';
import { parseNoteKey, pureSha256, verifyByWebCrypto } from '/verify/codec/merkle/index.js';

const at = (id) => document.getElementById(id);

/** The chosen folder as the verifier reads one (src/codec/audit-log/verify.ts, ExportSource). */
function sourceOf(files) {
  const byPath = new Map([...files].map((file) => [file.webkitRelativePath.split('/').slice(1).join('/'), file]));
  return {
    read: async (path) => {
      const file = byPath.get(path);
      return file && new Uint8Array(await file.arrayBuffer());
    },
    paths: async () => [...byPath.keys()],
  };
}

async function verdictOn() {
  const key = parseNoteKey(pureSha256, ((await at('key').files[0]?.text()) ?? '').trim());
  if (!key) return { title: 'This file holds no key of a log', damages: [], beyond: 'Choose the appliance’s audit.pub.' };
  const heads = await Promise.all([...at('heads').files].map((file) => file.text()));
  const source = sourceOf(at('folder').files);
  const isPack = (await source.paths()).includes('manifest.json');
  const verdict = await (isPack ? verifyEvidence : verifyExport)(source, { sha256: pureSha256, verify: verifyByWebCrypto, key, heads });
  const first = verdict.damages.find(({ index }) => index !== undefined)?.index;
  const whole = isPack ? `Good: this pack is as it was sealed, out of a log of ${verdict.size} entries` : `Good: ${verdict.size} entries, as the key signed them`;
  const bad = first === undefined ? 'Not whole' : `Not whole; the first bad entry is ${first}`;
  const pruned = verdict.pruned === undefined ? '' : `Entries before ${verdict.pruned} were pruned, as the log says. `;
  const stamps = verdict.stamps === undefined ? '' : `${verdict.stamps.there} time stamps are there; this page does not judge them, ekms audit verify --tsa does. `;
  return { title: verdict.damages.length === 0 ? whole : bad, damages: verdict.damages, beyond: pruned + stamps + verdict.cannotExclude };
}

at('what').addEventListener('submit', async (event) => {
  event.preventDefault();
  at('verify').disabled = true;
  at('verdict').textContent = 'Reading …';
  at('damages').replaceChildren();
  at('beyond').textContent = '';
  try {
    const { title, damages, beyond } = await verdictOn();
    at('verdict').textContent = title;
    at('beyond').textContent = beyond;
    at('damages').replaceChildren(
      ...damages.map(({ kind, index, words }) => {
        const item = document.createElement('li');
        item.textContent = `${kind}${index === undefined ? '' : ` at entry ${index}`}: ${words}`;
        return item;
      }),
    );
  } catch (error) {
    at('verdict').textContent = 'It could not be read';
    at('beyond').textContent = String(error);
  }
  at('verify').disabled = false;
});
