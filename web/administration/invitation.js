import { ask, attempt, createPasskey } from './api.js';

const token = location.hash.slice(1);
// The link works once; it need not stand in the history as well.
history.replaceState(null, '', location.pathname);

const form = document.getElementById('register');
form.hidden = token === '';
document.getElementById('no-link').hidden = token !== '';
form.addEventListener('submit', (event) => {
  event.preventDefault();
  const value = (name) => form.elements.namedItem(name).value.trim();
  const who = Object.fromEntries(['name', 'address'].flatMap((name) => (value(name) === '' ? [] : [[name, value(name)]])));
  attempt(async () => {
    const response = await createPasskey(await ask('POST', 'invitations/options', { token, ...who }));
    await ask('POST', 'invitations', { token, ...who, passkey: value('passkey'), response });
    location.assign('/');
  });
});
