// All nodes, and what goes through them.

import { ask } from './api.js';
import { element, svg, tag } from './elements.js';
import { poll } from './polling.js';
import { cell, fill, head, table, tableBody } from './tables.js';

const KEPT = 60;
const GONE_MS = 30_000; // for so long a node that has gone is still shown
const HEAD = ['Node', 'State', 'Connections', 'Channels', 'In a second', 'Out a second', 'Lag', 'Redis', 'Version'];
const FIGURES = [
  ['connections', 'Connections'],
  ['subscriptions', 'Subscriptions'],
  ['received_per_second', 'Messages a second'],
  ['delivered_per_second', 'Deliveries a second'],
];

const number = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });

export function nodesView(_subject, { signal, state, failed }) {
  const figures = FIGURES.map(([name, title]) => figure(name, title));
  const body = tableBody();
  const gone = new Map(); // name → when it was seen last
  let before = new Set();
  const view = element(
    'section',
    { 'aria-labelledby': 'nodes-title' },
    element('h2', { id: 'nodes-title', class: 'title' }, 'Nodes'),
    element('div', { class: 'figures' }, ...figures.map((each) => each.card)),
    table('All gateways', HEAD, body),
  );
  poll(
    2000,
    signal,
    async () => {
      const { nodes } = await ask('nodes', { signal });
      const now = Date.now();
      const there = new Set(nodes.map((each) => each.name));
      for (const name of before) if (!there.has(name)) gone.set(name, now);
      for (const [name, since] of gone) if (there.has(name) || now - since > GONE_MS) gone.delete(name);
      before = there;
      const reports = nodes.map((each) => each.report).filter(Boolean);
      for (const each of figures) each.add(reports.reduce((sum, report) => sum + report[each.name], 0));
      const lost = [...gone.keys()].map((name) => ({ name, gone: true }));
      fill(body, [...nodes, ...lost], (each) => each.name, row);
      const ready = reports.filter((each) => each.ready).length;
      state(ready === nodes.length ? 'connected' : 'waiting', `${ready} of ${nodes.length} nodes ready`);
    },
    failed,
  );
  return view;
}

function row({ name, report, gone }) {
  if (!report) return [head(name), cell('State', gone ? tag('gone', 'bad') : tag('unknown'))];
  return [
    head(name),
    cell('State', condition(report)),
    cell('Connections', `${number.format(report.connections)} of ${number.format(report.connections_limit)}`),
    cell('Channels', number.format(report.channels)),
    cell('In a second', number.format(report.received_per_second)),
    cell('Out a second', number.format(report.delivered_per_second)),
    cell('Lag', `${number.format(report.event_loop_lag * 1000)} ms`),
    cell('Redis', report.redis_down.length > 0 ? tag(`down: ${report.redis_down.join(', ')}`, 'bad') : 'up'),
    cell('Version', report.version),
  ];
}

function condition({ draining, ready }) {
  if (draining) return tag('draining', 'late');
  return ready ? tag('ready', 'good') : tag('not ready', 'bad');
}

// -- figures ----------------------------------------------------------------------------------

function figure(name, title) {
  const value = element('strong', {}, '–');
  const path = svg('polyline', {});
  const line = svg('svg', { viewBox: `0 0 ${KEPT - 1} 20`, preserveAspectRatio: 'none', 'aria-hidden': 'true' }, path);
  const seen = [];
  return {
    name,
    card: element('div', { class: 'card figure' }, element('span', {}, title), value, line),
    add(sum) {
      seen.push(sum);
      if (seen.length > KEPT) seen.shift();
      value.textContent = number.format(sum);
      const most = Math.max(...seen, 1);
      const first = KEPT - seen.length;
      path.setAttribute('points', seen.map((each, index) => `${first + index},${19 - (each / most) * 18}`).join(' '));
    },
  };
}
