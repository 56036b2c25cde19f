import { jest } from '@jest/globals';
import type * as DeviceCertificate from '../../src/codec/x509/device-certificate.js';

/**
 * Import this before anything of the server. When `named.delivery` is set, every device certificate is read as if it named that delivery key, so
 * the warden's comparison with it compares nothing: the one guard that cannot be taken out from the token's side.
 */
export const named: { delivery?: Buffer } = {};

jest.mock('../../src/codec/x509/device-certificate.js', () => {
  const actual = jest.requireActual<typeof DeviceCertificate>('../../src/codec/x509/device-certificate.js');
  return {
    ...actual,
    readDeviceCertificate: (...args: Parameters<typeof actual.readDeviceCertificate>) => ({
      ...actual.readDeviceCertificate(...args),
      ...named,
    }),
  };
});
