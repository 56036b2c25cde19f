import type { Request, Sessions } from '../access/index.js';
import { type Address, type AuditLog, orRefused, type Storage, type Unit } from '../foundation/index.js';
import type { Membership } from './membership.js';

/** How somebody proved who they are. */
export type SignInMethod = 'code' | 'oidc' | 'ldap';

/** The end of every way in: whoever proved an address, and belongs here, gets a session; a refusal is an entry. */
export class StaffSessions {
  constructor(
    private readonly log: { storage: Storage; audit: AuditLog },
    private readonly sessions: Sessions,
    private readonly membership: Membership,
  ) {}

  /**
   * Resolves with the `Set-Cookie` value.
   * @param prove resolves with the address; what it rejects with is what the caller hears
   * @param spend what makes the proof count once, in the unit that begins the session
   */
  async begin(
    method: SignInMethod,
    request: Request,
    prove: () => Promise<{ address: Address; personal?: Record<string, string> }>,
    spend: (unit: Unit) => Promise<void> = async () => {},
  ): Promise<string> {
    const personal = { network: request.network };
    const event = { action: 'staff.sign-in', actor: { kind: 'stranger' }, request: request.id, facts: { method }, personal } as const;
    return orRefused(this.log, event, async () => {
      const proven = await prove();
      await this.membership.require(proven.address);
      return this.log.storage.write(async (unit) => {
        await spend(unit);
        const { key: subject } = proven.address;
        const about = { address: subject, ...proven.personal };
        const { cookie } = await this.sessions.begin(unit, { audience: 'staff', subject, method }, { kind: 'staff' }, request, about);
        return cookie;
      });
    });
  }
}
