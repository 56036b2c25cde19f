const lifted = { minute: 1_000_000_000, day: 1_000_000_000 };

/** `budgets:` for a test that asks, from one device, what a site does not ask in a day. */
export const LIFTED = {
  challenges: { mailbox: { minute: lifted.minute }, source: { minute: lifted.minute }, app: lifted, site: lifted, appliance: lifted },
  enrolments: { person: lifted, source: { minute: lifted.minute }, app: lifted, site: lifted, appliance: lifted },
  retrievals: { device: lifted, person: lifted, app: lifted, site: lifted, appliance: lifted },
  decryptions: { device: lifted, person: lifted, app: lifted, site: lifted, appliance: lifted },
};
