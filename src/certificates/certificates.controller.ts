import { Controller, Get, Inject, Param, Query, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { Contract, ForDevices, On, REFUSALS } from '../access/index.js';
import { Fault, parseAddress, parsed } from '../foundation/index.js';
import { AUTHORITY_NAMES } from '../tokens/index.js';
import { CertificateDirectory } from './certificate-directory.js';
import { pem } from './certificate-times.js';
import { RevocationLists } from './revocation-lists.js';

const address = z.string().max(320);
const ADDRESS_REFUSALS = ['body-malformed', 'address-malformed', 'address-not-ascii'] as const;
const certificateOf = z
  .object({
    certificate: z.string().meta({ description: 'PEM' }),
    chain: z.array(z.string()).meta({ description: 'PEM: the authorities above it, without the root' }),
  })
  .meta({ id: 'CertificateOfAddress' });
/** The first generation of an authority has no number: `people.crl`, then `people-2.crl`. */
const fileOf = (extension: 'crl' | 'cer') =>
  z
    .string()
    .regex(new RegExp(`^(${AUTHORITY_NAMES.join('|')})(-[1-9][0-9]{0,5})?\\.${extension}$`))
    .meta({
      description: 'The authority’s name, from its second generation on with a number',
      examples: [`people.${extension}`, `people-2.${extension}`],
    });
const FILES = { crl: fileOf('crl'), cer: fileOf('cer') };
/** What stands before the extension: nothing that names an authority where the form is another. */
const idOf = (file: string, extension: 'crl' | 'cer'): string =>
  FILES[extension].safeParse(file).success ? file.slice(0, -extension.length - 1) : '';

@Controller()
export class CertificatesController {
  constructor(
    @Inject(CertificateDirectory) private readonly directory: CertificateDirectory,
    @Inject(RevocationLists) private readonly revocations: RevocationLists,
  ) {}

  /** Valid encrypting certificates of an address, newest first. */
  @ForDevices()
  @Get('v1/certificates')
  @Contract({
    id: 'findCertificates',
    summary: 'Valid encrypting certificates of an address',
    query: { email: address },
    answers: { 200: { description: 'The certificates, newest first; none for an address that has none', json: z.array(certificateOf) } },
    problems: { 400: ADDRESS_REFUSALS },
  })
  async byEmail(@Query('email') email: unknown): Promise<z.input<typeof certificateOf>[]> {
    const found = await this.directory.of(parseAddress(parsed(address, email, 'email')).key);
    return Promise.all(found.map(async (der) => ({ certificate: pem(der), chain: [pem(await this.directory.issuerOf(der))] })));
  }

  @On('public')
  @Get('crl/:file')
  @Contract({
    id: 'getRevocationList',
    summary: 'The revocation list of an authority (RFC 5280 §5)',
    path: { file: FILES.crl },
    answers: { 200: { description: 'DER', type: 'application/pkix-crl', headers: { 'Cache-Control': 'An hour' } } },
    problems: { ...REFUSALS.storage, 404: ['crl-unknown'] },
  })
  async crl(@Param('file') file: string, @Res() reply: FastifyReply) {
    const der = await this.revocations.find(idOf(file, 'crl'));
    return reply.type('application/pkix-crl').header('cache-control', 'max-age=3600').send(der);
  }

  @On('public')
  @Get('certs/:file')
  @Contract({
    id: 'getAuthority',
    summary: 'The certificate of an authority (RFC 5280 §4.2.2.1)',
    path: { file: FILES.cer },
    answers: { 200: { description: 'DER', type: 'application/pkix-cert' } },
    problems: { 404: ['authority-unknown'] },
  })
  async issuer(@Param('file') file: string, @Res() reply: FastifyReply) {
    const der = await this.directory.authority(idOf(file, 'cer'));
    return reply.type('application/pkix-cert').send(der);
  }

  /** RFC 4387 §2.2: search by mailbox. One hit only for now: the newest valid certificate. */
  @On('public')
  @Get('certs')
  @Contract({
    id: 'findCertificateByMailbox',
    summary: 'The newest valid encrypting certificate of a mailbox (RFC 4387 §2.2)',
    query: { uri: address },
    answers: { 200: { description: 'DER', type: 'application/pkix-cert' } },
    problems: { ...REFUSALS.storage, 400: ADDRESS_REFUSALS, 404: ['certificate-unknown'] },
  })
  async byUri(@Query('uri') uri: unknown, @Res() reply: FastifyReply) {
    const [newest] = await this.directory.of(parseAddress(parsed(address, uri, 'uri')).key);
    if (!newest) throw new Fault('not-found', 'certificate-unknown', 'there is no valid certificate for this address');
    return reply.type('application/pkix-cert').send(newest);
  }
}
