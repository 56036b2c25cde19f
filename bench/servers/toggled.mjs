// The appliance in the composition of this bench: its checks can be taken away and put back while it runs, which no setting of the product can.
// Orders over the channel of child_process.fork: 'all' (as delivered), 'charged' (all, and no request is charged ahead), 'no-budgets', 'none'. Each is answered when it holds.
import { startAppliance } from '../../dist/src/appliance.js';
import { reconcile } from '../../dist/src/commands/reconcile.js';
import { loadConfiguration } from '../../dist/src/configuration/index.js';
import { openHouse } from '../../dist/src/house.js';
import { root } from '../support/home.mjs';

const house = await openHouse(loadConfiguration(process.env.EKMS_HOME), { root });
await reconcile(house);
const { budgets, deviceGuard } = house;
const checked = { within: budgets.within.bind(budgets), admit: deviceGuard.admit.bind(deviceGuard) };

/** By certificate, the actor that the guard once made of it: from then on nobody looks whether device, person, app or freeze have changed. */
const remembered = new WeakMap();
let strangers = 0;
/** As if this asker had asked for nothing before in this minute: nothing is in their hand. */
const strange = (spending) => ({ ...spending, asker: String(strangers++) });
const ORDERS = {
  all: () => Object.assign(budgets, { within: checked.within }) && Object.assign(deviceGuard, { admit: checked.admit }),
  charged: () => ORDERS.all() && Object.assign(budgets, { within: (spending, act) => checked.within(strange(spending), act) }),
  'no-budgets': () => ORDERS.all() && Object.assign(budgets, { within: (_, act) => act(async () => {}) }),
  none: () =>
    ORDERS['no-budgets']() &&
    Object.assign(deviceGuard, {
      async admit(certificate, request) {
        let actor = remembered.get(certificate);
        if (!actor) {
          actor = await checked.admit(certificate, request);
          remembered.set(certificate, actor);
        }
        return { ...actor, request };
      },
    }),
};

const appliance = await startAppliance(house, (error) => console.error('defect:', error), console.error);
let since = process.cpuUsage();
process.on('message', (order) => {
  const { user, system } = process.cpuUsage(since);
  if (order !== 'end') ORDERS[order]();
  since = process.cpuUsage();
  process.send({ cpu: (user + system) / 1e6 });
  if (order === 'end')
    appliance
      .close()
      .then(() => house.close())
      .then(() => process.disconnect());
});
process.once('disconnect', () => process.exit());
process.send({ port: appliance.places.client.port });
