import type { House } from '../house.js';
import type { Finding } from './finding.js';

/** What `ekms doctor` says of administrators: whether one person alone can do what is dangerous, and whether anybody is about to be locked out. */
export async function examinePeople({ administrators, passkeys, breakGlass }: House): Promise<Finding[]> {
  const all = await administrators.list();
  const officers = all.filter(({ role }) => role === 'security-officer');
  const single = (await Promise.all(all.map(async ({ id, name }) => ({ name, keys: (await passkeys.of(id)).length })))).filter(
    ({ keys }) => keys < 2,
  );
  const glass = await breakGlass.waiting();
  return [
    ...(glass
      ? [
          {
            check: 'break-glass',
            verdict: 'bad' as const,
            words: `the glass is being broken: from ${new Date(glass.opens).toISOString()} on ${glass.officers.length} security officers can be made without two; if that is not wanted: ekms admin break-glass cancel`,
          },
        ]
      : []),
    (await administrators.bootstrap.isOver())
      ? {
          check: 'two persons',
          verdict: 'good',
          words: `what is dangerous takes two persons; there are ${officers.length} security officers`,
        }
      : {
          check: 'two persons',
          verdict: 'bad',
          words: `bootstrap: ${officers.length} of 2 security officers are registered, so one person alone can do what is dangerous; invite them: ekms admin invite`,
        },
    ...single.map(
      ({ name, keys }): Finding => ({
        check: 'passkeys',
        verdict: 'warn',
        words: `${name} has ${keys}: a second one keeps losing it from locking them out`,
      }),
    ),
  ];
}
