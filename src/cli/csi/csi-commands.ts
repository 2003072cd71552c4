import type { CommandGroup } from '../command.ts'

export const csiCommands: CommandGroup = {
  summary: 'The Workload API\'s socket in pods of Kubernetes',
  commands: {
    run: {
      summary: 'Mount the socket\'s folder into pods, as CSI has it, until SIGINT or SIGTERM',
      load: async () => (await import('./csi-run.ts')).csiRun
    }
  }
}
