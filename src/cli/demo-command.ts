import { defineCommand } from './command.ts'
import { switchFlag } from './flag.ts'

export const demo = defineCommand({
  flags: {
    once: switchFlag('run to the end, then exit 0 or tell which step failed'),
    'keep-logs': switchFlag('leave the logs of all processes behind'),
    'no-namespaces': switchFlag('use two loopback addresses as nodes even where network namespaces could be made')
  },
  details: 'One server, two node agents, one stock Envoy per node, and workloads that speak plain HTTP. As root, with nft or iptables,\n' +
    'they are in pods whose connections their node\'s Envoy takes: who may call whom changes as you watch. Otherwise one is let in and\n' +
    'one is refused.\n' +
    'Stays up until Ctrl-C and leaves nothing behind.',
  examples: ['assay demo', 'assay demo --once', 'assay demo --once --no-namespaces --keep-logs'],
  async run ({ flags, terminal }) {
    const { runDemo } = await import('./demo/demo.ts')
    return await runDemo({ once: flags.once, keepLogs: flags['keep-logs'], namespaces: !flags['no-namespaces'] }, terminal)
  }
})
