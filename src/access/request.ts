/** Where a request came from. */
export interface Request {
  readonly id: string;
  /** Remote address as the socket says; IPv4-mapped IPv6 is IPv4. */
  readonly network: string;
  /** The client's version as it says itself, in the field EKMS-Client. */
  readonly client?: string;
}
