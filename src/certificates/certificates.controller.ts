import { Controller, Get, Inject, Param, Query, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { ForDevices, On } from '../access/index.js';
import { Fault, parseAddress, parsed } from '../foundation/index.js';
import { CertificateDirectory } from './certificate-directory.js';
import { pem } from './certificate-times.js';
import { RevocationLists } from './revocation-lists.js';

const address = z.string().max(320);

@Controller()
export class CertificatesController {
  constructor(
    @Inject(CertificateDirectory) private readonly directory: CertificateDirectory,
    @Inject(RevocationLists) private readonly revocations: RevocationLists,
  ) {}

  /** Valid encrypting certificates of an address, newest first. */
  @ForDevices()
  @Get('v1/certificates')
  async byEmail(@Query('email') email: unknown) {
    const found = await this.directory.of(parseAddress(parsed(address, email, 'email')).key);
    return found.map((der) => ({ certificate: pem(der), chain: [pem(this.directory.authority('people'))] }));
  }

  @On('public')
  @Get('crl/:file')
  async crl(@Param('file') file: string, @Res() reply: FastifyReply) {
    const der = await this.revocations.find(/^([a-z]+)\.crl$/.exec(file)?.[1] ?? '');
    return reply.type('application/pkix-crl').header('cache-control', 'max-age=3600').send(der);
  }

  @On('public')
  @Get('certs/:file')
  async issuer(@Param('file') file: string, @Res() reply: FastifyReply) {
    const der = this.directory.authority(/^([a-z]+)\.cer$/.exec(file)?.[1] ?? '');
    return reply.type('application/pkix-cert').send(der);
  }

  /** RFC 4387 §2.2: search by mailbox. One hit only for now: the newest valid certificate. */
  @On('public')
  @Get('certs')
  async byUri(@Query('uri') uri: unknown, @Res() reply: FastifyReply) {
    const [newest] = await this.directory.of(parseAddress(parsed(address, uri, 'uri')).key);
    if (!newest) throw new Fault('not-found', 'certificate-unknown', 'there is no valid certificate for this address');
    return reply.type('application/pkix-cert').send(newest);
  }
}
