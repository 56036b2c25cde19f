import { readFileSync } from 'node:fs';
import type { Budgets, Employees, Origins, RowSeal, Sessions } from '../access/index.js';
import type { Configuration } from '../configuration/index.js';
import type { Directory } from '../directory/index.js';
import { type AuditLog, type Clock, Fault, type Storage } from '../foundation/index.js';
import type { Mailer } from '../mail/index.js';
import {
  Attempts,
  DirectoryPassword,
  MailedCode,
  Membership,
  OidcSignIn,
  OpenIdProvider,
  StaffDoors,
  StaffSessions,
} from '../staff/index.js';

const QUARTER = 15 * 60_000;
/** Passwords tried for one address in a quarter of an hour; directories lock after ten or so. */
const BY_ADDRESS = 5;

/** The ways in for staff that `staff.signIn` names. */
export function staffDoors(
  { staff, domains, directory: settings }: Configuration,
  parts: {
    storage: Storage;
    audit: AuditLog;
    clock: Clock;
    mailer: Mailer;
    seal: RowSeal;
    budgets: Budgets;
    sessions: Sessions;
    employees: Employees;
    origins: Origins;
    directory: Directory | undefined;
  },
): StaffDoors {
  const { storage, audit, clock, budgets, sessions, employees, origins, directory } = parts;
  const membership = new Membership(storage, employees, domains, settings?.unlisted === 'allow' ? undefined : directory);
  const begun = new StaffSessions({ storage, audit }, sessions, membership);
  const isOn = (method: (typeof staff.signIn)[number]) => staff.signIn.includes(method);
  const code = new MailedCode(
    { ...parts, membership, sessions: begun },
    { minutes: staff.codeMinutes, origin: () => origins.of('staff') },
    (error) => console.error('defect in a mailed code:', error),
  );
  const { oidc } = staff;
  const provider =
    oidc &&
    new OidcSignIn(
      new OpenIdProvider({
        issuer: oidc.issuer,
        clientId: oidc.clientId,
        clientSecret: () => firstLine(oidc.clientSecretFile),
        ...(oidc.caFile ? { ca: () => readFileSync(String(oidc.caFile), 'utf8') } : {}),
      }),
      begun,
      budgets,
      { redirect: () => `${origins.of('staff')}/v1/staff/oidc/callback`, requireVerified: oidc.requireVerified },
    );
  return new StaffDoors(
    storage,
    sessions,
    isOn('code') ? code : undefined,
    isOn('oidc') ? provider : undefined,
    isOn('ldap') && directory ? new DirectoryPassword(directory, begun, budgets, new Attempts(clock, BY_ADDRESS, QUARTER)) : undefined,
  );
}

function firstLine(file: string): string {
  try {
    return readFileSync(file, 'utf8').split(/\r?\n/, 1)[0] ?? '';
  } catch {
    throw new Fault('misconfigured', 'configuration-invalid', `staff.oidc.clientSecretFile: ${file} cannot be read`);
  }
}
