// What the staff page asks of the appliance. Nothing here makes markup of text.

/** A refusal: `code` is stable, `message` is for people (RFC 9457). */
export class Refused extends Error {
  constructor({ code, detail }) {
    super(detail);
    this.code = code;
  }
}

/** Resolves with the answer's JSON, or undefined. Throws Refused. */
export async function ask(method, path, body) {
  const answer = await fetch(`/v1/staff/${path}`, {
    method,
    credentials: 'same-origin',
    ...(body === undefined ? {} : { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
  });
  const text = await answer.text();
  const value = text === '' ? undefined : JSON.parse(text);
  if (!answer.ok) throw new Refused(value);
  return value;
}
