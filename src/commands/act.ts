import type { z } from 'zod';
import type { AuditActor, Role } from '../foundation/index.js';
import type { House } from '../house.js';

/** What an operator or administrator can have done. Arguments and results are JSON. */
export interface Act<S extends z.ZodType = z.ZodType> {
  args: S;
  /** Administrators of these roles may have it done at the administration listener. The operator, who may enter the home folder, asks for any. */
  roles: readonly Role[];
  /** Once bootstrap has ended, asking for it only files a request, which another person approves. */
  danger?: 'two-persons';
  perform(house: House, args: z.output<S>, by: AuditActor): Promise<unknown>;
}

/** Lets each row's `perform` see the type that its own `args` parse to. */
export const act = <S extends z.ZodType>(row: Act<S>): Act<S> => row;
