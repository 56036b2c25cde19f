import type { Readable } from 'node:stream';
import { Controller, Get, Inject, Post, Req, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import yazl from 'yazl';
import { z } from 'zod';
import { Contract, ForPeople, type GuardedRequest, Who } from '../access/index.js';
import { pem } from '../certificates/index.js';
import { parsedJson } from '../foundation/index.js';
import { type Encrypted, failure, PdfDesk, type Sender } from './pdf-desk.js';
import { closeAll, type PdfForm, readForm } from './pdf-form.js';
import { readersShape } from './readers.js';
import { MOST_RECIPIENTS } from './recipients.js';

const ADDRESS_REFUSALS = ['address-malformed', 'address-not-ascii'] as const;
const ask = z.strictObject({ recipients: z.array(z.string().max(320)).min(1).max(MOST_RECIPIENTS) }).meta({ id: 'RecipientsAsk' });
const standing = z
  .object({
    address: z.string(),
    state: z.enum(['valid', 'expired', 'revoked', 'none']),
    certificates: z.int().nonnegative().meta({ description: 'How many valid ones there are; the newest is used.' }),
  })
  .meta({ id: 'RecipientStanding' });

const recoveryShape = z
  .object({
    current: z.string().nullable().meta({ description: 'PEM' }),
    certificates: z.array(z.string()).meta({ description: 'PEM: current and former ones, and those whose keys lie elsewhere' }),
    chain: z.array(z.string()).meta({ description: 'PEM: the authorities above `current`, without the root' }),
  })
  .meta({ id: 'PdfRecovery' });

const DOCUMENT_PROBLEMS = ['pdf-not', 'pdf-damaged', 'pdf-truncated', 'pdf-unsupported'] as const;

@Controller('v1/pdf')
export class PdfController {
  constructor(@Inject(PdfDesk) private readonly desk: PdfDesk) {}

  /** A form in, an encrypted document out; of several documents a ZIP, in which `results.json` says what became of each. */
  @ForPeople()
  @Post('encryptions')
  @Contract({
    id: 'encryptPdf',
    summary: 'Documents encrypted to people; the sender is always among them',
    form: {
      file: { description: 'A PDF. Several make a ZIP.', isFile: true, isRequired: true },
      recipients: { description: 'Addresses and group:NAME with commas between, or JSON: [{"email", "permissions"}]' },
      certificate: { description: 'A certificate from elsewhere, PEM or DER', isFile: true },
      permissions: { description: 'full (default), read, print, fill-in, comment, or single permissions with commas between' },
      encrypt: { description: 'all (default), all-but-metadata, attachments' },
      signatures: { description: 'refuse (default) or break: what happens to a signed document' },
      opening: {
        description:
          'From a device that can open a document which is encrypted already: JSON, by the name of the document its content-encryption key in base64 (`key` of `POST /v1/pdf/readers`, opened)',
      },
    },
    answers: {
      200: {
        description: 'The encrypted document, or a ZIP with one of each and results.json',
        type: ['application/pdf', 'application/zip'],
        headers: {
          'Ekms-Warnings': 'What its sender should know: repaired, signatures-broken, certification-broken, usage-rights-broken, pdf-a',
          'Ekms-Receipt': 'Index and leaf of the entry in the log',
        },
      },
    },
    problems: {
      400: [
        'body-malformed',
        'request-malformed',
        'file-missing',
        'file-name-unfit',
        'recipients-missing',
        'permissions-unknown',
        'certificate-unfit',
        ...ADDRESS_REFUSALS,
        ...DOCUMENT_PROBLEMS,
      ],
      403: ['pdf-not-reader', 'pdf-key-wrong', 'permission-missing', 'record-forged'],
      404: ['group-unknown'],
      409: ['recipients-unresolved', 'sender-without-key', 'pdf-encrypted', 'pdf-signed'],
      413: ['pdf-too-large', 'pdf-excessive', 'recipients-too-many', 'field-too-large'],
      429: ['budget-exceeded'],
      503: ['pdf-busy', 'disk-full', 'document-recovery-missing'],
    },
  })
  async encrypt(@Who() by: Sender, @Req() request: GuardedRequest, @Res() reply: FastifyReply): Promise<void> {
    await this.desk.admit(by); // before its bytes come in
    const form = await readForm(request, this.desk);
    try {
      const [first] = form.documents;
      if (form.documents.length === 1 && first) sendOne(reply, first.name, await this.desk.encrypt(by, first, form.wish));
      else
        await sendBatch(reply, form, async (document) => {
          if (document !== first) await this.desk.admit(by);
          return this.desk.encrypt(by, document, form.wish);
        });
    } finally {
      await closeAll(form.documents);
    }
  }

  @ForPeople()
  @Post('recipients')
  @Contract({
    id: 'findPdfRecipients',
    summary: 'How recipients stand, before anything is encrypted to them',
    body: ask,
    answers: { 200: { description: 'In the order of the question, groups as their members', json: z.array(standing) } },
    problems: { 400: ADDRESS_REFUSALS, 404: ['group-unknown'], 413: ['recipients-too-many'] },
  })
  async recipients(@Req() request: GuardedRequest, @Res() reply: FastifyReply): Promise<void> {
    const { recipients } = parsedJson(ask, request.body);
    const found: z.input<typeof standing>[] = (await this.desk.standings(recipients)).map(({ address, state, certificates }) => ({
      address,
      state,
      certificates,
    }));
    await reply.status(200).send(found);
  }

  @ForPeople()
  @Get('recovery')
  @Contract({
    id: 'getPdfRecovery',
    summary: 'The organisation as a reader of documents: what a device encrypts every document to besides',
    answers: { 200: { description: 'Nothing in `current` while that is off', json: recoveryShape } },
    problems: { 403: ['record-forged'], 503: ['document-recovery-missing'] },
  })
  async recovery(): Promise<z.input<typeof recoveryShape>> {
    const { current, every, authority } = await this.desk.recovery();
    return { current: current ? pem(current) : null, certificates: every.map(pem), chain: [pem(authority)] };
  }

  /** From the file alone: whom it names, and no more of it. A POST because the file comes with it: nothing is changed, and nothing kept. */
  @ForPeople()
  @Post('readers')
  @Contract({
    id: 'findPdfReaders',
    summary: 'Who can open a document, from the document alone (a POST because the document comes with it; nothing is kept)',
    form: { file: { description: 'A PDF', isFile: true, isRequired: true } },
    answers: { 200: { description: 'Recipients as the document names them', json: readersShape } },
    problems: {
      400: [
        'request-malformed',
        'body-malformed',
        'file-missing',
        'file-name-unfit',
        ...DOCUMENT_PROBLEMS,
        'asn1-malformed',
        'cms-malformed',
        'cms-not-enveloped',
      ],
      413: ['pdf-too-large', 'pdf-excessive', 'field-too-large'],
      429: ['budget-exceeded'],
      503: ['pdf-busy', 'disk-full'],
    },
  })
  async readers(@Who() by: Sender, @Req() request: GuardedRequest, @Res() reply: FastifyReply): Promise<void> {
    await this.desk.admit(by);
    const documents = await readForm(request, this.desk, 'document alone');
    try {
      const [only] = documents.documents;
      await reply.status(200).send(only ? await this.desk.readers(by, only.file) : { encryption: 'none', readers: [] });
    } finally {
      await closeAll(documents.documents);
    }
  }
}

/** Results on their way to whoever asked; gone when they are read, or when they who asked are. */
function served(reply: FastifyReply, results: readonly Encrypted[]): Readable[] {
  const contents = results.map(({ file, bytes }) => {
    const content = file.content(bytes);
    content.once('close', () => void file.close());
    return content;
  });
  const end = () => {
    for (const content of contents) content.destroy();
  };
  reply.raw.once('close', end);
  // They may have left while it was made: nobody will say so again.
  if (reply.raw.destroyed) end();
  return contents;
}

function sendOne(reply: FastifyReply, name: string, encrypted: Encrypted): void {
  const { bytes, warnings, receipt } = encrypted;
  const [content] = served(reply, [encrypted]);
  if (!content || content.destroyed) return;
  void reply
    .status(200)
    .headers({
      'content-type': 'application/pdf',
      'content-length': bytes,
      'content-disposition': `attachment; filename*=UTF-8''${encodeURIComponent(name)}`,
      'cache-control': 'no-store',
      'ekms-receipt': `${receipt.index} ${receipt.leaf}`,
      ...(warnings.length > 0 ? { 'ekms-warnings': warnings.join(', ') } : {}),
    })
    .send(content);
}

/** One after another; one that fails leaves the others alone. All is known before the first byte goes. */
async function sendBatch(
  reply: FastifyReply,
  { documents }: PdfForm,
  encrypt: (document: PdfForm['documents'][number]) => Promise<Encrypted>,
): Promise<void> {
  const done: (Encrypted & { name: string })[] = [];
  const results: object[] = [];
  const close = () => Promise.all(done.splice(0).map(({ file }) => file.close()));
  try {
    for (const document of documents) {
      if (reply.raw.destroyed) break; // nobody waits for the others
      try {
        const { name } = document;
        const encrypted = await encrypt(document);
        done.push({ ...encrypted, name });
        results.push({ name, state: 'encrypted', pages: encrypted.pages, warnings: encrypted.warnings, receipt: encrypted.receipt });
      } catch (error) {
        results.push({ name: document.name, state: 'refused', ...failure(error) });
      }
    }
  } catch (error) {
    await close();
    throw error;
  }
  const zip = new yazl.ZipFile();
  const contents = served(reply, done);
  if (reply.raw.destroyed) return;
  zip.on('error', () => reply.raw.destroy());
  for (const [index, { name, bytes: size }] of done.entries()) {
    const content = contents[index];
    if (content) zip.addReadStream(content, name, { compress: false, size });
  }
  zip.addBuffer(Buffer.from(`${JSON.stringify(results, undefined, 2)}\n`), 'results.json');
  zip.end();
  void reply
    .status(200)
    .headers({
      'content-type': 'application/zip',
      'content-disposition': 'attachment; filename="encrypted.zip"',
      'cache-control': 'no-store',
    })
    .send(zip.outputStream);
}
