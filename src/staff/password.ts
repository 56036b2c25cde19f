import type { Budgets, Request } from '../access/index.js';
import { askedOutside, type Directory } from '../directory/index.js';
import { type Address, isFault } from '../foundation/index.js';
import type { Attempts } from './attempts.js';
import { refused } from './membership.js';
import type { StaffSessions } from './staff-session.js';

/** Sign-in by the password that the organisation's directory knows. EKMS passes it on once and keeps nothing. */
export class DirectoryPassword {
  constructor(
    private readonly directory: Directory,
    private readonly sessions: StaffSessions,
    private readonly budgets: Budgets,
    /** Fewer than the directory itself takes before it locks an account: a stranger must not lock people out of everything else. By address, and by who has it. */
    private readonly attempts: Attempts,
  ) {}

  /** Resolves with the `Set-Cookie` value. Rejects with `sign-in-refused`, `too-many-attempts`, `budget-exceeded`, `directory-unavailable`. */
  async signIn(address: Address, password: string, request: Request): Promise<string> {
    await this.budgets.take(this.budgets.ofSignIn(request));
    this.attempts.take(`address ${address.key}`);
    return this.sessions.begin('ldap', request, async () => {
      const entry = await askedOutside(this.directory.signIn(address, password, (id) => this.#mayTry(id)));
      if (!entry) throw refused();
      return { address, personal: { directory: entry.id } };
    });
  }

  /** Of one person by all of their addresses: an account has one lock. Too many look like a wrong password, for else they told which addresses are one person's. */
  #mayTry(id: string): boolean {
    try {
      this.attempts.take(`person ${id}`);
      return true;
    } catch (error) {
      if (isFault(error, 'too-many-attempts')) return false;
      throw error;
    }
  }
}
