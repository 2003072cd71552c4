import type { CommandGroup } from '../command.ts'

export const svidCommands: CommandGroup = {
  summary: 'Look at and verify SVIDs in files; needs no server',
  commands: {
    inspect: {
      summary: 'Tell what an SVID says, without judging it',
      load: async () => (await import('./svid-inspect.ts')).svidInspect
    },
    verify: {
      summary: 'Judge an SVID by a bundle',
      load: async () => (await import('./svid-verify.ts')).svidVerify
    }
  }
}
