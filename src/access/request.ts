/** Where a request came from. */
export interface Request {
  readonly id: string;
  /** Remote address as the socket says; IPv4-mapped IPv6 is IPv4. */
  readonly network: string;
}
