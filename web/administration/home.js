import { ask, askProved, attempt, createPasskey, element, usePasskey } from './api.js';

const at = (id) => document.getElementById(id);
const when = (time) => (time ? new Date(time).toLocaleString() : '–');
const cells = (...values) => element('tr', {}, ...values.map((value) => element('td', {}, value)));
const button = (words, act) => element('button', { class: 'quiet', type: 'button', onclick: () => attempt(act) }, words);

async function show() {
  let me;
  try {
    me = await ask('GET', 'me');
  } catch (error) {
    if (!['session-missing', 'session-ended', 'session-elsewhere'].includes(error.code)) throw error;
  }
  at('outside').hidden = me !== undefined;
  at('inside').hidden = me === undefined;
  at('who').textContent = me ? `${me.name}, ${me.role ?? 'no role yet'}` : '';
  if (me) await showInside(me);
}

async function showInside(me) {
  at('bootstrap').hidden = !me.bootstrap;
  at('one-passkey').hidden = me.passkeys.length > 1;
  at('passkeys').replaceChildren(
    ...me.passkeys.map(({ id, name, createdAt, usedAt }) => cells(name, when(createdAt), when(usedAt), button('Remove', () => removePasskey(id)))),
  );
  const administrators = await ask('GET', 'administrators');
  const names = new Map(administrators.map(({ id, name }) => [id, name]));
  at('administrators').replaceChildren(
    ...administrators.map(({ id, name, address, role, passkeys }) => cells(name, address, role ?? 'none', String(passkeys), element('code', {}, id))),
  );
  at('sessions').replaceChildren(
    ...(await ask('GET', 'sessions')).map(({ id, administrator, network, beganAt, usedAt, current }) =>
      cells(names.get(administrator) ?? administrator, network, when(beganAt), when(usedAt), current ? 'this one' : button('End', () => endSession(id))),
    ),
  );
}

async function removePasskey(id) {
  await askProved('DELETE', `passkeys/${id}`);
  await show();
}

async function endSession(id) {
  await ask('DELETE', `sessions/${id}`);
  await show();
}

at('sign-in').addEventListener('click', () =>
  attempt(async () => {
    await ask('POST', 'sign-in', { response: await usePasskey(await ask('POST', 'sign-in/options')) });
    await show();
  }),
);
at('sign-out').addEventListener('click', () =>
  attempt(async () => {
    await ask('POST', 'sign-out');
    await show();
  }),
);
at('add-passkey').addEventListener('submit', (event) => {
  event.preventDefault();
  attempt(async () => {
    const response = await createPasskey(await askProved('POST', 'passkeys/options'));
    await ask('POST', 'passkeys', { name: at('passkey-name').value.trim(), response });
    await show();
  });
});

attempt(show);
