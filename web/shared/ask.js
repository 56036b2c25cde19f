// How every page asks the appliance. Nothing here makes markup of text.

/** A refusal: `code` is stable, `message` is for people (RFC 9457). */
export class Refused extends Error {
  constructor({ code, detail }) {
    super(detail);
    this.code = code;
  }
}

/** How to ask below `root`: resolves with the answer's JSON, or undefined. Throws Refused. */
export const asking = (root) => async (method, path, body) => {
  const answer = await fetch(`${root}/${path}`, {
    method,
    credentials: 'same-origin',
    ...(body === undefined ? {} : { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
  });
  const text = await answer.text();
  const value = text === '' ? undefined : JSON.parse(text);
  if (!answer.ok) throw new Refused(value);
  return value;
};
