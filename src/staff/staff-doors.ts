import type { Sessions, StaffActor } from '../access/index.js';
import { auditActor } from '../access/index.js';
import type { Storage } from '../foundation/index.js';
import type { MailedCode } from './mailed-code.js';
import type { OidcSignIn } from './oidc-sign-in.js';
import type { DirectoryPassword } from './password.js';
import type { SignInMethod } from './staff-session.js';

/** The ways in that are on (`staff.signIn`), and the way out. */
export class StaffDoors {
  constructor(
    private readonly storage: Storage,
    private readonly sessions: Sessions,
    readonly code: MailedCode | undefined,
    readonly oidc: OidcSignIn | undefined,
    readonly password: DirectoryPassword | undefined,
  ) {}

  get methods(): SignInMethod[] {
    return [
      ...(this.oidc ? (['oidc'] as const) : []),
      ...(this.password ? (['ldap'] as const) : []),
      ...(this.code ? (['code'] as const) : []),
    ];
  }

  async signOut(actor: StaffActor): Promise<void> {
    await this.storage.write((unit) => this.sessions.end(unit, actor.session.id, auditActor(actor)));
  }

  async forgetExpired(): Promise<void> {
    await this.code?.forgetExpired();
  }
}
