import type { CommandGroup } from '../command.ts'
import type { AuthorityKind } from './authority-calls.ts'

export const localAuthorityCommands: CommandGroup = {
  summary: 'The authorities that sign: how they follow each other, and what to do when one is stolen',
  commands: { x509: commandsOf('x509', 'X.509'), jwt: commandsOf('jwt', 'JWT') }
}

export const upstreamAuthorityCommands: CommandGroup = {
  summary: 'The authority above a server\'s own',
  commands: {
    taint: {
      summary: 'Have what is below an upstream authority replaced',
      load: async () => (await import('./upstream-authority.ts')).upstreamAuthorityVerb('taint')
    },
    revoke: {
      summary: 'Take a tainted upstream authority out of the bundle',
      load: async () => (await import('./upstream-authority.ts')).upstreamAuthorityVerb('revoke')
    }
  }
}

function commandsOf (kind: AuthorityKind, name: string): CommandGroup {
  return {
    summary: `${name} authorities`,
    commands: {
      show: {
        summary: `Show the active, the prepared and the old ${name} authority`,
        load: async () => (await import('./local-authority-show.ts')).localAuthorityShow(kind)
      },
      prepare: {
        summary: `Make and publish the next ${name} authority`,
        load: async () => (await import('./local-authority-change.ts')).localAuthorityPrepare(kind)
      },
      activate: {
        summary: `Let the prepared ${name} authority sign`,
        load: async () => (await import('./local-authority-change.ts')).localAuthorityActivate(kind)
      },
      taint: {
        summary: `Have what the old ${name} authority signed replaced`,
        load: async () => (await import('./local-authority-change.ts')).localAuthorityTaint(kind)
      },
      revoke: {
        summary: `Take the tainted ${name} authority out of the bundle`,
        load: async () => (await import('./local-authority-change.ts')).localAuthorityRevoke(kind)
      }
    }
  }
}
