import { isIP } from 'node:net';
import { z } from 'zod';
import { parseAddress } from '../foundation/index.js';

/** What several parts of ekms.yaml are made of. */
export const path = z.string().min(1, 'must be a path');

/** The bare address: EKMS's mail certificate names it, so it must be exactly what stands in From. */
export const mailAddress = z.string().refine((text) => {
  try {
    return parseAddress(text).shown !== '';
  } catch {
    return false;
  }
}, 'must be an e-mail address such as ekms@corp.example');

/** Whether the host of a URL is this very machine, where TLS would protect nothing. */
export const isThisMachine = (host: string): boolean =>
  host === 'localhost' || host === '[::1]' || (isIP(host) === 4 && host.startsWith('127.'));
