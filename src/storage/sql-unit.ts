import type { Row, SqlValue, Unit } from '../foundation/index.js';
import type { Answer, Engine } from './engine.js';

/** An Error is made where one is thrown: its stack costs more than a statement. */
const ENDED = {
  get by() {
    return new Error('this unit of work has ended');
  },
};

/**
 * The unit of work as its author sees it. After one failed statement it is spoiled on both databases alike: PostgreSQL would refuse
 * the next statement, SQLite would go on and commit half. Whoever wants to go on says ON CONFLICT.
 */
export class SqlUnit implements Unit {
  #spoiled: { by: unknown } | undefined;
  #underWay = 0;

  constructor(private readonly engine: Engine) {}

  async all<T extends object = Row>(sql: string, parameters: readonly SqlValue[] = []): Promise<T[]> {
    return (await this.#ask(sql, parameters)).rows as T[]; // the statement's author knows its columns
  }

  async one<T extends object = Row>(sql: string, parameters: readonly SqlValue[] = []): Promise<T | undefined> {
    return (await this.all<T>(sql, parameters))[0];
  }

  async run(sql: string, parameters: readonly SqlValue[] = []): Promise<number> {
    return (await this.#ask(sql, parameters)).changed;
  }

  /**
   * Nothing more may be asked through this unit; throws what spoiled it, also when its author caught that. A statement that nobody awaited is a defect of its
   * author: whether it failed is not known yet, so neither may the unit count as done.
   */
  end(): void {
    if (this.#spoiled) throw this.#spoiled.by;
    this.#spoiled = ENDED;
    if (this.#underWay > 0) throw new Error('a defect: this unit of work ended while a statement of it was under way');
  }

  async #ask(sql: string, parameters: readonly SqlValue[]): Promise<Answer> {
    if (this.#spoiled) throw this.#spoiled.by;
    this.#underWay++;
    try {
      return await this.engine.query(sql, parameters);
    } catch (error) {
      this.#spoiled ??= { by: error };
      throw error;
    } finally {
      this.#underWay--;
    }
  }
}
