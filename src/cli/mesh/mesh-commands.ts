import type { CommandGroup } from '../command.ts'

export const meshCommands: CommandGroup = {
  summary: 'The node\'s proxy and the workloads it serves',
  commands: {
    status: {
      summary: 'Show the workloads of this node and what its proxy does for them',
      load: async () => (await import('./mesh-status.ts')).meshStatus
    },
    add: {
      summary: 'Tell the agent of a workload in a network namespace of its own',
      load: async () => (await import('./mesh-workloads.ts')).meshAdd
    },
    remove: {
      summary: 'Tell the agent that a workload is gone',
      load: async () => (await import('./mesh-workloads.ts')).meshRemove
    },
    'keep-plugin': {
      summary: 'Put the container runtime\'s plugin in place on this node, and keep it there until SIGINT or SIGTERM',
      load: async () => (await import('./mesh-plugin.ts')).meshKeepPlugin
    },
    'remove-plugin': {
      summary: 'Take the container runtime\'s plugin out of this node',
      load: async () => (await import('./mesh-plugin.ts')).meshRemovePlugin
    }
  }
}
