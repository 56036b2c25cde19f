import { asking, Refused } from './ask.js';

const ask = asking('/v1/staff');

const at = (id) => document.getElementById(id);

/** What a provider's way back may end with; anything else in the address is nobody's words. */
const REFUSALS = {
  'sign-in-refused': 'Your organisation’s account does not belong to anybody here.',
  'oidc-refused': 'Your organisation’s sign-in service did not vouch for you. Begin again.',
  'oidc-unavailable': 'Your organisation’s sign-in service does not answer. Try again later.',
  'directory-unavailable': 'Your organisation’s directory does not answer. Try again later.',
  'budget-exceeded': 'Too many tries. Wait a minute.',
};

/** The code request of this window. */
let asked;

/** Runs what a button began; says what went wrong where a screen reader hears it. */
async function attempt(act) {
  at('message').textContent = '';
  const buttons = [...document.querySelectorAll('button')];
  for (const button of buttons) button.disabled = true;
  try {
    await act();
  } catch (error) {
    at('message').textContent = error instanceof Refused ? `${error.message} (${error.code})` : `Something went wrong: ${error.message}`;
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

async function show() {
  let me;
  try {
    me = await ask('GET', 'me');
  } catch (error) {
    if (!['session-missing', 'session-ended', 'session-elsewhere'].includes(error.code)) throw error;
  }
  at('outside').hidden = me !== undefined;
  at('inside').hidden = me === undefined;
  at('who').textContent = me?.address ?? '';
  if (me) await showInside();
  else await showOutside();
}

async function showOutside() {
  const { methods } = await ask('GET', 'sign-in');
  at('by-oidc').hidden = !methods.includes('oidc');
  at('by-ldap').hidden = !methods.includes('ldap');
  at('by-code').hidden = !methods.includes('code') || asked !== undefined;
  at('code').hidden = asked === undefined;
}

async function showInside() {
  const devices = await ask('GET', 'enrolments');
  at('waiting').hidden = devices.length === 0;
  at('nothing').hidden = devices.length > 0;
  at('devices').replaceChildren(...devices.map(deviceItem));
}

function deviceItem({ id, platform, name, requestedAt }) {
  const item = document.createElement('li');
  const what = document.createElement('p');
  const strong = document.createElement('strong');
  strong.textContent = name ?? platform;
  what.append(strong, ` (${platform}), asked for at ${new Date(requestedAt).toLocaleString()}`);
  const yes = document.createElement('button');
  yes.textContent = 'This is my device';
  yes.addEventListener('click', () => attempt(() => decide(id, true)));
  const no = document.createElement('button');
  no.className = 'quiet';
  no.textContent = 'I know nothing of it';
  no.addEventListener('click', () => attempt(() => decide(id, false)));
  item.append(what, yes, no);
  return item;
}

async function decide(id, confirm) {
  await ask('POST', `enrolments/${id}/confirmation`, { confirm });
  await show();
}

at('by-code').addEventListener('submit', (event) => {
  event.preventDefault();
  attempt(async () => {
    const address = at('code-address').value;
    asked = await ask('POST', 'codes', { address });
    const until = new Date(asked.expiresAt).toLocaleTimeString();
    at('code-sent').textContent = `If ${address} belongs to somebody here, a code is in its mailbox within a minute. It is good until ${until}.`;
    at('code-text').value = '';
    await showOutside();
    at('code-text').focus();
  });
});

at('code').addEventListener('submit', (event) => {
  event.preventDefault();
  attempt(async () => {
    await ask('POST', `codes/${asked.id}`, { code: at('code-text').value });
    asked = undefined;
    await show();
  });
});

at('another').addEventListener('click', () =>
  attempt(async () => {
    asked = undefined;
    await showOutside();
    at('code-address').focus();
  }),
);

at('by-ldap').addEventListener('submit', (event) => {
  event.preventDefault();
  attempt(async () => {
    const password = at('ldap-password').value;
    at('ldap-password').value = '';
    await ask('POST', 'passwords', { address: at('ldap-address').value, password });
    await show();
  });
});

at('sign-out').addEventListener('click', () =>
  attempt(async () => {
    await ask('DELETE', 'session');
    await show();
  }),
);

const refused = new URLSearchParams(location.search).get('refused');
if (refused !== null) history.replaceState(null, '', '/');
await attempt(show);
if (refused !== null) at('message').textContent = REFUSALS[refused] ?? 'You were not signed in. Begin again.';
