import type { Address } from '../foundation/index.js';

/**
 * Whose an address is at this moment, by a word from outside: the organisation's directory fills this. Where there is none, an address is
 * whoever's it was until an operator says otherwise.
 */
export abstract class AddressOwners {
  /** Makes our bindings true of this address before somebody enrols by it. Rejects where nobody may enrol by it now. */
  abstract settle(address: Address): Promise<void>;
}
