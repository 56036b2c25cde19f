import type { Reader, Storage } from '../foundation/index.js';
import type { RowSeal } from './row-seal.js';

/** What an administrator may do. One person has one role or none: they exclude one another, and none stands above the others. */
export const ROLES = ['security-officer', 'operator', 'auditor', 'recovery-agent'] as const;
export type Role = (typeof ROLES)[number];

export interface Administrator {
  id: string;
  name: string;
  /** Where announcements go; a mailbox as `parseAddress` spells it. */
  address: string;
  role: Role | null;
  /** `invited` until the first passkey is registered. */
  state: 'invited' | 'active' | 'removed';
  created: number;
}

type AdministratorRow = Administrator & { mac: Buffer };

export const administratorRow = ({ id, name, address, role, state, created }: Administrator) => ({
  id,
  name,
  address,
  role,
  state,
  created,
});

/** Administrators and their roles. A row that was not sealed as it stands is nobody. */
export class Administrators {
  constructor(
    private readonly storage: Storage,
    private readonly seal: RowSeal,
  ) {}

  async find(id: string, reader: Reader = this.storage): Promise<Administrator | undefined> {
    const row = await reader.one<AdministratorRow>('SELECT * FROM administrators WHERE id = ?', [id]);
    return row && this.seal.holds('administrators', administratorRow(row), row.mac) ? administratorRow(row) : undefined;
  }
}
