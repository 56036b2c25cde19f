import { WORDS } from './acts.js';
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
  at('sign-out').hidden = me === undefined;
  at('who').textContent = me ? `${me.name}, ${me.role ?? 'no role yet'}` : '';
  if (me) await showInside(me);
}

async function showInside(me) {
  at('bootstrap').hidden = !me.bootstrap;
  at('break-glass').hidden = me.breakGlass === null;
  if (me.breakGlass)
    at('break-glass-words').textContent = `The glass is being broken: from ${when(me.breakGlass.opensAt)} on, these become security officers without the approval of two: ${me.breakGlass.officers.map(({ name, address }) => `${name} <${address}>`).join(', ')}. If you do not know of it, stop it.`;
  at('one-passkey').hidden = me.passkeys.length > 1;
  at('passkeys').replaceChildren(
    ...me.passkeys.map(({ id, name, createdAt, usedAt }) => cells(name, when(createdAt), when(usedAt), button('Remove', () => removePasskey(id)))),
  );
  const administrators = await ask('GET', 'administrators');
  const names = new Map(administrators.map(({ id, name }) => [id, name]));
  at('administrators').replaceChildren(
    ...administrators.map(({ id, name, address, role, passkeys }) => cells(name, address, role ?? 'none', String(passkeys), element('code', {}, id))),
  );
  at('requests').replaceChildren(...(await ask('GET', 'requests')).map((request) => requestCard(request, me, names)));
  if (at('requests').childElementCount === 0) at('requests').append(element('p', { class: 'soft' }, 'There are none.'));
  at('recovery').hidden = me.role !== 'recovery-agent';
  if (me.role === 'recovery-agent') await showRecovery();
  at('sessions').replaceChildren(
    ...(await ask('GET', 'sessions')).map(({ id, administrator, network, beganAt, usedAt, current }) =>
      cells(names.get(administrator) ?? administrator, network, when(beganAt), when(usedAt), current ? 'this one' : button('End', () => endSession(id))),
    ),
  );
}

/** Cases and lists of agents that wait for signatures. Where no agents were named there is nothing to see. */
async function showRecovery() {
  const { agents, cases, lists, transfers } = await act('recovery.list', {}).catch((error) => {
    if (error.code !== 'no-recovery-agents') throw error;
    return { agents: undefined, cases: [], lists: [], transfers: [] };
  });
  const open = cases.filter(({ request, ended }) => ended === null && request.expires > Date.now());
  at('papers').replaceChildren(
    ...open.map(({ case: id, request, challenge, approvals }) =>
      paper('recovery.approve', { case: id }, request, challenge, approvals, agents, `${request.reading ? 'Reading the mail' : request.message ? 'One message' : 'Keys'} of a person, until ${when(request.expires)}`),
    ),
    ...lists.map(({ appointment, list, challenge, approvals }) =>
      paper('agents.approve', { list: appointment }, list, challenge, approvals, agents, `Recovery agents, list ${list.version}`),
    ),
    ...transfers
      .filter(({ request, ended }) => ended === null && request.expires > Date.now())
      .map(({ transfer, request, owners, challenge, approvals }) => {
        const whose = owners ? `${request.keys} keys from another appliance` : request.employees ? `Keys of ${request.employees.length} people` : 'Everybody’s keys';
        const text = owners ? { request, owners } : request;
        return paper('transfer.approve', { transfer }, text, challenge, approvals, agents, `${whose}${owners ? '' : ' to another place'}, until ${when(request.expires)}`);
      }),
  );
  if (at('papers').childElementCount === 0) at('papers').append(element('p', { class: 'soft' }, 'There are none.'));
}

function paper(name, which, text, challenge, approvals, agents, title) {
  const options = {
    challenge,
    rpId: agents.passkeys[0]?.rp,
    allowCredentials: agents.passkeys.map(({ id }) => ({ id, type: 'public-key' })),
    userVerification: 'required',
    timeout: 300_000,
  };
  const sign = async () => {
    await act(name, { ...which, by: { response: await usePasskey(options) } });
    await show();
  };
  return element(
    'article',
    { 'data-paper': Object.values(which)[0] },
    element('h3', {}, title),
    element('pre', {}, JSON.stringify(text, undefined, 2)),
    element('p', { class: 'state' }, `${approvals.length} of ${agents.quorum} agents have signed${approvals.length > 0 ? `: ${approvals.join(', ')}` : ''}`),
    element('p', { class: 'soft' }, 'Hash: ', element('code', {}, challenge)),
    ...(agents.passkeys.length > 0 ? [element('button', { type: 'button', class: 'approve', onclick: () => attempt(sign) }, 'Approve with your passkey')] : []),
  );
}

const act = async (name, args) => (await askProved('POST', `acts/${name}`, { args })).value;

const waits = (state) => state === 'open' || state === 'approved';

function requestCard(request, me, names) {
  const { id, act, args, state, reason, requester, role, needed, approvals, hash, createdAt, expiresAt } = request;
  const isMine = requester.kind === 'administrator' && requester.id === me.id;
  const who = requester.kind === 'operator' ? `${requester.id}, at the command line` : (names.get(requester.id) ?? requester.id);
  const given = approvals.map(({ administrator, at: time }) => `${names.get(administrator) ?? administrator}, ${when(time)}`).join('; ');
  const words = `${state}${reason ? ` (${reason})` : ''}: ${approvals.length} of ${needed} approvals by ${role}${given ? `: ${given}` : ''}`;
  const mayApprove = state === 'open' && !isMine && me.role === role && !approvals.some(({ administrator }) => administrator === me.id);
  return element(
    'article',
    { 'data-request': id },
    element('h3', {}, act),
    ...(WORDS[act] ? [element('p', {}, WORDS[act])] : []),
    element('pre', {}, JSON.stringify(args, undefined, 2)),
    ...[...names].filter(([known]) => Object.values(args).includes(known)).map(([known, name]) => element('p', {}, element('code', {}, known), ` is ${name}.`)),
    element('p', {}, `Asked for by ${who}, ${when(createdAt)}. Until ${when(expiresAt)}.`),
    element('p', { class: 'state' }, words),
    element('p', { class: 'soft' }, 'Hash: ', element('code', {}, hash)),
    ...(mayApprove ? [element('button', { type: 'button', class: 'approve', onclick: () => attempt(() => approve(id)) }, 'Approve with your passkey')] : []),
    ...(state === 'approved' && isMine ? [button('Have it done', () => performRequest(id))] : []),
    ...(waits(state) && (isMine || me.role === role) ? [button(isMine ? 'Withdraw' : 'Deny', () => deny(id))] : []),
  );
}

async function approve(id) {
  await ask('POST', `requests/${id}/approvals`, { response: await usePasskey(await ask('POST', `requests/${id}/approvals/options`)) });
  await show();
}

async function performRequest(id) {
  const { value } = await askProved('POST', `requests/${id}/performance`);
  await show();
  if (value !== null) document.querySelector(`[data-request="${id}"]`).append(element('pre', {}, JSON.stringify(value, undefined, 2)));
}

async function deny(id) {
  await ask('DELETE', `requests/${id}`);
  await show();
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
at('break-glass-stop').addEventListener('click', () =>
  attempt(async () => {
    await ask('POST', 'acts/break-glass.cancel', { args: {} });
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
