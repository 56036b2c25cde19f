import type { Budgets, Request } from '../access/index.js';
import { askedOutside, type Directory } from '../directory/index.js';
import type { Address } from '../foundation/index.js';
import type { Attempts } from './attempts.js';
import { refused } from './membership.js';
import type { StaffSessions } from './staff-session.js';

/** Sign-in by the password that the organisation's directory knows. EKMS passes it on once and keeps nothing. */
export class DirectoryPassword {
  constructor(
    private readonly directory: Directory,
    private readonly sessions: StaffSessions,
    private readonly budgets: Budgets,
    /** Fewer than the directory itself takes before it locks an account: a stranger must not lock people out of everything else. */
    private readonly byAddress: Attempts,
  ) {}

  /** Resolves with the `Set-Cookie` value. Rejects with `sign-in-refused`, `too-many-attempts`, `budget-exceeded`, `directory-unavailable`. */
  async signIn(address: Address, password: string, request: Request): Promise<string> {
    await this.budgets.take(this.budgets.ofSignIn(request));
    this.byAddress.take(`address ${address.key}`);
    return this.sessions.begin('ldap', request, async () => {
      const entry = await askedOutside(this.directory.signIn(address, password));
      if (!entry) throw refused();
      return { address, personal: { directory: entry.id } };
    });
  }
}
