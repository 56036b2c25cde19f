/** Where the challenge mail arrives. */
export { ImapMailbox } from './imap.js';
export { Mailbox } from './mailbox.js';
export { Maildir } from './maildir.js';
