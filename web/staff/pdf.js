// Documents go in, encrypted ones come back. Nothing here makes markup of text.

const at = (id) => document.getElementById(id);
const SIGN_IN = 'Sign in first: “Your devices”, above.';

at('encrypt').addEventListener('submit', async (event) => {
  event.preventDefault();
  const button = event.submitter;
  button.disabled = true;
  at('message').textContent = '';
  at('done').textContent = 'Encrypting …';
  try {
    await encrypt([...at('documents').files]);
  } catch (error) {
    at('done').textContent = '';
    at('message').textContent = error.message;
  } finally {
    button.disabled = false;
  }
});

// Said before somebody has filled it in for nothing.
fetch('/v1/staff/me', { credentials: 'same-origin' })
  .then(({ status }) => {
    if (status === 401) at('message').textContent = SIGN_IN;
  })
  .catch(() => undefined);

// A file that misses the field must not replace the page.
for (const kind of ['dragover', 'drop'])
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    if (kind === 'drop' && event.dataTransfer.files.length > 0) at('documents').files = event.dataTransfer.files;
  });

async function encrypt(documents) {
  const form = new FormData();
  form.append('recipients', at('recipients').value);
  form.append('permissions', at('permissions').value);
  for (const document_ of documents) form.append('file', document_, document_.name);
  const answer = await fetch('/v1/pdf/encryptions', { method: 'POST', credentials: 'same-origin', body: form });
  if (!answer.ok) {
    const { code, detail } = await answer.json();
    throw new Error(answer.status === 401 ? SIGN_IN : `${detail} (${code})`);
  }
  const name = documents.length === 1 ? documents[0].name.replace(/(\.pdf)?$/i, '.encrypted.pdf') : 'encrypted.zip';
  const link = document.createElement('a');
  link.href = URL.createObjectURL(await answer.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  const warnings = answer.headers.get('ekms-warnings');
  at('done').textContent = `${name} is in your downloads.${warnings ? ` Note: ${warnings}.` : ''}${documents.length > 1 ? ' results.json in it says what became of each.' : ''}`;
}
