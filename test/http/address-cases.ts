/** A request from `from`, which is a proxy that speaks by `speaks` where it is 127.0.0.1 or 127.0.0.2, and who it must be taken for. */
export interface HeaderCase {
  title: string;
  speaks: 'x-forwarded-for' | 'forwarded';
  from: string;
  headers: Record<string, string | string[]>;
  /** An address, or `refused`. */
  seen: string;
}

/** People as the policy of the test knows them: only those of 10.1.0.0/16, fd00:1::/48 and 127.1.0.0/16 may come; 8.8.8.0/24 is listed, but outside. */
const PEOPLE = [
  { v4: '10.1.2.3', v6: 'fd00:1::2:3', isIn: true },
  { v4: '10.1.255.255', v6: 'fd00:1:0:ffff:ffff:ffff:ffff:ffff', isIn: true },
  { v4: '10.2.0.0', v6: 'fd00:1:1::', isIn: false },
  { v4: '10.0.255.255', v6: 'fd00:0:ffff::1', isIn: false },
  { v4: '8.8.8.8', v6: '2001:4860:4860::8888', isIn: false },
  { v4: '127.0.0.3', v6: '::1', isIn: false },
] as const;

const octets = (v4: string) => v4.split('.').map(Number) as [number, number, number, number];
const hex = (v4: string) => octets(v4).map((one) => one.toString(16).padStart(2, '0'));
const number = (v4: string) => octets(v4).reduce((sum, one) => sum * 256 + one, 0);

/** Spellings of one person's address, and whether a field that holds it says who that is. */
function spellings({ v4, v6 }: { v4: string; v6: string }): { text: string; is: string | undefined }[] {
  const [a, b, c, d] = octets(v4);
  const [h1, h2, h3, h4] = hex(v4);
  return [
    { text: v4, is: v4 },
    { text: ` ${v4}\t`, is: v4 },
    { text: `${v4}:443`, is: v4 },
    { text: `[${v6}]`, is: v6 },
    { text: `[${v6}]:50123`, is: v6 },
    { text: `[${v6.toUpperCase()}]`, is: v6 },
    { text: `[::ffff:${v4}]`, is: v4 },
    { text: `[::FFFF:${v4}]:80`, is: v4 },
    { text: `[::ffff:${h1}${h2}:${h3}${h4}]`, is: v4 },
    { text: `[0:0:0:0:0:ffff:${v4}]`, is: v4 },
    { text: `[0000:0000:0000:0000:0000:ffff:${h1}${h2}:${h3}${h4}]`, is: v4 },
    // What some parsers read as the same address, and others do not.
    { text: `0${a}.${b}.${c}.${d}`, is: undefined },
    { text: `0${a.toString(8)}.${b}.${c}.${d}`, is: undefined },
    { text: `0x${h1}.${b}.${c}.${d}`, is: undefined },
    { text: String(number(v4)), is: undefined },
    { text: `0x${h1}${h2}${h3}${h4}`, is: undefined },
    { text: `${a}.${b}.${c * 256 + d}`, is: undefined },
    { text: `${v4}.`, is: undefined },
    { text: `${v4}/32`, is: undefined },
    { text: `${v4}%eth0`, is: undefined },
    { text: `[${v6}%eth0]`, is: undefined },
    { text: `[${v6}%25eth0]`, is: undefined },
    { text: `[${v6}/128]`, is: undefined },
    { text: `[::${v4}]`, is: undefined }, // IPv4-compatible: another address, and nobody's here
    { text: `[64:ff9b::${v4}]`, is: undefined },
    { text: `[2002:${h1}${h2}:${h3}${h4}::1]`, is: undefined },
    { text: `[fe80::${h1}${h2}:${h3}${h4}]`, is: undefined },
    { text: `${v4} ${v4}`, is: undefined },
    { text: `${v4}:0x50`, is: undefined },
    { text: '', is: undefined },
    { text: 'unknown', is: undefined },
    { text: '_hidden', is: undefined },
    { text: 'localhost', is: undefined },
  ];
}

const INSIDE = '10.1.2.3';
const OUTSIDE = '10.2.0.0';

const judged = (is: string | undefined, isIn: boolean): string => (is !== undefined && isIn ? is : 'refused');

/** The last word is the proxy's own: one line, several lines, behind whatever the caller wrote. */
function placed(text: string, others: string): { how: string; value: string | string[] }[] {
  return [
    { how: 'alone', value: text },
    { how: 'behind the caller’s own', value: `${others}, ${text}` },
    { how: 'on a line of its own', value: [others, text] },
  ];
}

const forwarded = (text: string) => `for=${/^[\w.-]*$/.test(text) && text !== '' ? text : `"${text.trim()}"`}`;

export const HEADER_CASES: HeaderCase[] = PEOPLE.flatMap((person) => {
  // What a caller would write to pass for another.
  const lie = person.isIn ? OUTSIDE : INSIDE;
  return spellings(person).flatMap(({ text, is }): HeaderCase[] => {
    const seen = judged(is, person.isIn);
    const isBare = text === `[${person.v6}]`;
    return [
      ...placed(text, lie).map(
        ({ how, value }): HeaderCase => ({
          title: `X-Forwarded-For ${how}: ${JSON.stringify(value)}`,
          speaks: 'x-forwarded-for',
          from: '127.0.0.1',
          headers: { 'x-forwarded-for': value },
          seen,
        }),
      ),
      ...(isBare
        ? [
            {
              title: `X-Forwarded-For bare ${person.v6}`,
              speaks: 'x-forwarded-for',
              from: '127.0.0.1',
              headers: { 'x-forwarded-for': person.v6 },
              seen,
            } as const,
          ]
        : []),
      ...placed(forwarded(text), `for=${lie};proto=https;by=_x`).map(
        ({ how, value }): HeaderCase => ({
          title: `Forwarded ${how}: ${JSON.stringify(value)}`,
          speaks: 'forwarded',
          from: '127.0.0.1',
          headers: { forwarded: value },
          seen,
        }),
      ),
    ];
  });
}).concat([
  ...[
    'x-forwarded-for',
    'forwarded',
    'x-real-ip',
    'x-client-ip',
    'true-client-ip',
    'cf-connecting-ip',
    'x-cluster-client-ip',
    'forwarded-for',
    'x-forwarded',
    'via',
    'x-ssl-client-cert',
    'client-ip',
  ].flatMap((field): HeaderCase[] =>
    (['x-forwarded-for', 'forwarded'] as const).flatMap((speaks) => {
      const value = field === 'forwarded' ? `for=${INSIDE}` : INSIDE;
      const lie = field === 'forwarded' ? `for=${OUTSIDE}` : OUTSIDE;
      return [
        // No proxy: its own address counts, whatever it writes.
        { title: `${field} from a stranger`, speaks, from: '127.2.0.1', headers: { [field]: value }, seen: 'refused' },
        { title: `${field} from an employee`, speaks, from: '127.1.0.1', headers: { [field]: lie }, seen: '127.1.0.1' },
        // A proxy that speaks by another field.
        ...(field === speaks
          ? []
          : [
              {
                title: `${field} from a proxy that speaks by ${speaks}`,
                speaks,
                from: '127.0.0.1',
                headers: { [field]: value },
                seen: 'refused',
              },
            ]),
      ];
    }),
  ),
  { title: 'a proxy that says nothing', speaks: 'x-forwarded-for', from: '127.0.0.1', headers: {}, seen: 'refused' },
  {
    title: 'two proxies of ours',
    speaks: 'x-forwarded-for',
    from: '127.0.0.1',
    headers: { 'x-forwarded-for': `${INSIDE}, 127.0.0.2` },
    seen: INSIDE,
  },
  {
    title: 'two proxies of ours, a stranger',
    speaks: 'x-forwarded-for',
    from: '127.0.0.1',
    headers: { 'x-forwarded-for': `${INSIDE}, ${OUTSIDE}, 127.0.0.2` },
    seen: 'refused',
  },
  {
    title: 'two proxies of ours, an employee who lies',
    speaks: 'x-forwarded-for',
    from: '127.0.0.1',
    headers: { 'x-forwarded-for': `unknown, ${INSIDE}, 127.0.0.2` },
    seen: INSIDE,
  },
  {
    title: 'proxies only',
    speaks: 'x-forwarded-for',
    from: '127.0.0.1',
    headers: { 'x-forwarded-for': '127.0.0.1, 127.0.0.2' },
    seen: 'refused',
  },
  {
    title: 'an element too many',
    speaks: 'x-forwarded-for',
    from: '127.0.0.1',
    headers: { 'x-forwarded-for': `${INSIDE},` },
    seen: 'refused',
  },
  {
    title: 'a field of 5,000 characters',
    speaks: 'x-forwarded-for',
    from: '127.0.0.1',
    headers: { 'x-forwarded-for': `${`${OUTSIDE}, `.repeat(500)}${INSIDE}` },
    seen: 'refused',
  },
  ...[
    [`for="${INSIDE}", for=${OUTSIDE}`, 'refused'],
    [`for="${OUTSIDE}, for=${INSIDE}`, 'refused'],
    [`for="x\\", for=${INSIDE}`, 'refused'],
    [`for=${OUTSIDE};for=${INSIDE}`, 'refused'],
    [`for=${INSIDE};For=${INSIDE}`, 'refused'],
    [`by=${INSIDE}`, 'refused'],
    [`host=${INSIDE};for=${OUTSIDE}`, 'refused'],
    [`FOR=${INSIDE}`, INSIDE],
    [`for=${INSIDE} ; proto=http`, INSIDE],
    [`proto=https;for="${INSIDE}:80";host="a,b;c=\\"d\\""`, INSIDE],
    [`secret="for=${OUTSIDE}, for=${OUTSIDE}";for=${INSIDE}`, INSIDE],
    [`for=${OUTSIDE} for=${INSIDE}`, 'refused'],
    [`for =${INSIDE}`, 'refused'],
    [`for=fd00:1::2:3`, 'refused'],
    [`for="fd00:1::2:3"`, 'refused'],
    [`for="[fd00:1::2:3]"`, 'fd00:1::2:3'],
    [`for=${INSIDE},`, 'refused'],
    [`,for=${INSIDE}`, 'refused'],
    [`for=${INSIDE};`, 'refused'],
    [INSIDE, 'refused'],
  ].map(
    ([value = '', seen = '']): HeaderCase => ({
      title: `Forwarded: ${value}`,
      speaks: 'forwarded',
      from: '127.0.0.1',
      headers: { forwarded: value },
      seen,
    }),
  ),
]);
/** A socket's own address, as Node writes it, before a policy with these blocks, and whether it may come. */
export interface SocketCase {
  blocks: string[];
  internal?: string[];
  address: string | undefined;
  isIn: boolean;
}

const EVERYWHERE = ['0.0.0.0/0', '::/0'];
const socketCase = (blocks: string[], ins: (string | undefined)[], outs: (string | undefined)[], internal?: string[]): SocketCase[] => [
  ...ins.map((address) => ({ blocks, address, isIn: true, ...(internal ? { internal } : {}) })),
  ...outs.map((address) => ({ blocks, address, isIn: false, ...(internal ? { internal } : {}) })),
];

export const SOCKET_CASES: SocketCase[] = [
  ...socketCase(
    ['10.1.2.3/32'],
    ['10.1.2.3', '::ffff:10.1.2.3', '::ffff:a01:203'],
    ['10.1.2.2', '10.1.2.4', '::10.1.2.3', '::ffff:0:a01:203', '64:ff9b::a01:203'],
  ),
  ...socketCase(['10.1.2.3'], ['10.1.2.3'], ['10.1.2.30', '110.1.2.3']),
  ...socketCase(['fd00::1/128'], ['fd00::1', 'fd00::1%eth0', 'FD00:0:0:0:0:0:0:1'], ['fd00::2', 'fd00::', 'fd00::1:1']),
  ...socketCase(['::ffff:10.1.2.0/120'], ['10.1.2.0', '10.1.2.255', '::ffff:10.1.2.9'], ['10.1.1.255', '10.1.3.0', '::a01:200']),
  // Everything listed is everything inside.
  ...socketCase(
    EVERYWHERE,
    [
      '127.0.0.1',
      '127.255.255.255',
      '10.0.0.0',
      '10.255.255.255',
      '172.16.0.0',
      '172.31.255.255',
      '192.168.0.0',
      '192.168.255.255',
      '::1',
      'fc00::',
      'fdff:ffff::1',
      '::ffff:10.0.0.1',
    ],
    [
      '126.255.255.255',
      '128.0.0.0',
      '9.255.255.255',
      '11.0.0.0',
      '172.15.255.255',
      '172.32.0.0',
      '192.167.255.255',
      '192.169.0.0',
      '0.0.0.0',
      '255.255.255.255',
      '169.254.1.1',
      '100.64.0.1',
      '8.8.8.8',
      '224.0.0.1',
      '::',
      '::2',
      'fbff::',
      'fe00::',
      'fe80::1',
      'fe80::1%eth0',
      'ff02::1',
      '2001:db8::1',
      '64:ff9b::7f00:1',
      '2002:7f00:1::',
      '::ffff:8.8.8.8',
      '::127.0.0.1',
    ],
  ),
  // IPv6 listed whole is no IPv4, mapped or not, and the other way round.
  ...socketCase(['::/0'], ['::1', 'fd00::1'], ['127.0.0.1', '::ffff:127.0.0.1', '10.0.0.1']),
  ...socketCase(['0.0.0.0/0'], ['127.0.0.1', '::ffff:127.0.0.1'], ['::1', 'fd00::1', '::127.0.0.1']),
  ...socketCase(
    EVERYWHERE,
    ['8.8.8.8', '2001:db8::1', 'fe80::1%eth0', '0.0.0.0', '::'],
    [undefined, '', 'localhost', 'unknown', '010.0.0.1', '1.2.3'],
    EVERYWHERE,
  ),
  ...socketCase(['10.0.0.0/8'], ['10.1.0.1'], ['10.2.0.1'], ['10.1.0.0/16']),
  ...socketCase(['10.128.0.0/9', '10.0.0.0/10'], ['10.63.255.255', '10.128.0.0'], ['10.64.0.0', '10.127.255.255']),
];
