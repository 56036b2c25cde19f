import type { z } from 'zod';
import type { Quorum } from '../administration/index.js';
import type { AuditActor, Role } from '../foundation/index.js';
import type { House } from '../house.js';

/**
 * Who has to agree once bootstrap is over. `two-persons`: besides the one who asks, a security officer; whoever asks at the command line is known by a
 * Unix account alone and so counts for nobody: then two officers. A quorum: so many holders of a role, none of them the one who asks.
 */
export type Danger = 'two-persons' | Quorum;

/** What an operator or administrator can have done. Arguments and results are JSON. */
export interface Act<S extends z.ZodType = z.ZodType> {
  args: S;
  /** Administrators of these roles may have it done at the administration listener. The operator, who may enter the home folder, asks for any. */
  roles: readonly Role[];
  /** Once bootstrap is over, asking for it only files a request, which others approve. A function where it depends on what is asked. */
  danger?: Danger | ((args: z.output<S>) => Danger | undefined);
  /** The result is for the one who asked (it holds a secret, or a link): once approved, they have it done themselves (`ekms request perform`). Else the last approval does it. */
  collected?: true;
  /** Its `from` is the address that an administrator asks from, as the listener judged it, whatever they write; the operator says it themselves. */
  from?: true;
  perform(house: House, args: z.output<S>, by: AuditActor): Promise<unknown>;
}

/** Lets each row's `perform` see the type that its own `args` parse to. */
export const act = <S extends z.ZodType>(row: Act<S>): Act<S> => row;

/** About requests themselves; src/commands/act-desk.ts has them beside the table. */
export type RequestActName = 'request.list' | 'request.show' | 'request.perform' | 'request.deny';
