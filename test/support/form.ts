export type Field = [name: string, value: string | { file: string; bytes: Buffer }];

/** A request of `multipart/form-data` (RFC 7578). */
export function form(fields: readonly Field[]): { body: Buffer; headers: Record<string, string> } {
  const parts = fields.map(([name, value]) => {
    const isFile = typeof value !== 'string';
    const more = isFile ? `; filename="${value.file}"\r\nContent-Type: application/pdf` : '';
    return Buffer.concat([
      Buffer.from(`--edge\r\nContent-Disposition: form-data; name="${name}"${more}\r\n\r\n`),
      isFile ? value.bytes : Buffer.from(value),
      Buffer.from('\r\n'),
    ]);
  });
  return {
    body: Buffer.concat([...parts, Buffer.from('--edge--\r\n')]),
    headers: { 'content-type': 'multipart/form-data; boundary=edge' },
  };
}
