// What the pages ask of the appliance, and the passkey ceremonies. Nothing here makes markup of text.
import { asking, Refused } from './ask.js';

export const ask = asking('/v1/admin');

/** Makes a passkey. */
export async function createPasskey(options) {
  const made = await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) });
  return made.toJSON();
}

/** Has a passkey sign what was asked. */
export async function usePasskey(options) {
  const signed = await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) });
  return signed.toJSON();
}

/** Asks; where a fresh proof is wanted, has the person give it and asks again. */
export async function askProved(method, path, body) {
  try {
    return await ask(method, path, body);
  } catch (error) {
    if (error.code !== 'proof-needed') throw error;
    await ask('POST', 'proofs', { response: await usePasskey(await ask('POST', 'proofs/options')) });
    return ask(method, path, body);
  }
}

/** An element with attributes and children; text stays text. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes))
    if (key === 'onclick') made.addEventListener('click', value);
    else made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Runs what a button began; says what went wrong where a screen reader hears it. */
export async function attempt(act) {
  const message = document.getElementById('message');
  message.textContent = '';
  try {
    await act();
  } catch (error) {
    message.textContent =
      error instanceof Refused
        ? `${error.message} (${error.code})`
        : error.name === 'NotAllowedError'
          ? 'The passkey was not used: it was cancelled, took too long, or none fits.'
          : error.name === 'InvalidStateError'
            ? 'This authenticator holds a passkey of yours already. Use another one.'
            : `Something went wrong: ${error.message}`;
  }
}
