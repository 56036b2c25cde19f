// CycloneDX on standard output: npm's own list of the modules, and what else is in the bundle. For deploy/bundle, in the project's root:
//   bundle-sbom.mjs VERSION BUNDLE-FOLDER
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const [version, bundle] = process.argv.slice(2);
const npm = execFileSync('npm', ['sbom', '--package-lock-only', '--omit', 'dev', '--sbom-format', 'cyclonedx', '--sbom-type', 'application'], {
  encoding: 'utf8',
  maxBuffer: 64 * 2 ** 20,
});
const { metadata, components, dependencies, ...rest } = JSON.parse(npm);
// Where npm found it at this time is no property of the component.
const modules = components.map(({ externalReferences, ...component }) => component);
const debian = readFileSync(join(bundle, 'Packages'), 'utf8')
  .split('\n\n')
  .filter((text) => text.trim() !== '')
  .map((text) => {
    const field = (name) => new RegExp(`^${name}: (.*)$`, 'm').exec(text)?.[1] ?? '';
    const [name, edition, architecture] = ['Package', 'Version', 'Architecture'].map(field);
    const purl = `pkg:deb/debian/${name}@${encodeURIComponent(edition)}?arch=${architecture}`;
    return { 'bom-ref': purl, type: 'library', name, version: edition, purl, hashes: [{ alg: 'SHA-256', content: field('SHA256') }] };
  });
const application = { ...metadata.component, version, name: 'ekms', externalReferences: undefined };
const document = {
  ...rest,
  metadata: { ...metadata, component: application, timestamp: new Date(Number(process.env['SOURCE_DATE_EPOCH']) * 1000).toISOString() },
  components: [...modules, ...debian],
  dependencies,
};
// The same bundle has the same number: RFC 9562 §5.8, of a digest instead of by chance.
const digest = createHash('sha256').update(JSON.stringify({ ...document, serialNumber: undefined })).digest('hex');
const uuid = `${digest.slice(0, 8)}-${digest.slice(8, 12)}-8${digest.slice(13, 16)}-a${digest.slice(17, 20)}-${digest.slice(20, 32)}`;
process.stdout.write(`${JSON.stringify({ ...document, serialNumber: `urn:uuid:${uuid}` }, undefined, 1)}\n`);
