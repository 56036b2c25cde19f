import multipart from '@fastify/multipart';
import type { FastifyInstance } from 'fastify';

/** `multipart/form-data` is read by the routes that take it, part by part; every limit is theirs. */
export async function acceptForms(app: FastifyInstance): Promise<void> {
  await app.register(multipart);
}
