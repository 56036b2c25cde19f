import type { Role } from '../foundation/index.js';

export interface KnownAdministrator {
  id: string;
  /** One or none. */
  role: Role | null;
  state: 'active' | 'removed';
}

/** What the guard asks about who signed in at the administration listener. Administration fills this port. */
export abstract class KnownAdministrators {
  /** A row that was not sealed as it stands is nobody. */
  abstract find(id: string): Promise<KnownAdministrator | undefined>;
}
