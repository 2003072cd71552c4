import type { CommandGroup } from '../command.ts'

export const takeoverCommands: CommandGroup = {
  summary: 'Move a live trust domain from SPIRE\'s server to this one, and back',
  commands: {
    plan: {
      summary: 'Show what would be copied, who could move, and what is in the way; change nothing',
      load: async () => (await import('./takeover-plan.ts')).takeoverPlan
    },
    start: {
      summary: 'Publish the authorities of each side in the other\'s bundle, and copy partners',
      load: async () => (await import('./takeover-start.ts')).takeoverStart
    },
    run: {
      summary: 'Keep both sides equal while agents move, until SIGINT or SIGTERM',
      load: async () => (await import('./takeover-run.ts')).takeoverRun
    },
    status: {
      summary: 'Show what is left and what would break',
      load: async () => (await import('./takeover-status.ts')).takeoverStatus
    },
    token: {
      summary: 'Make an agent\'s join token anew, so that it keeps its SPIFFE ID',
      load: async () => (await import('./takeover-token.ts')).takeoverToken
    },
    finish: {
      summary: 'End the takeover once no agent is left at SPIRE',
      load: async () => (await import('./takeover-finish.ts')).takeoverFinish
    },
    rollback: {
      summary: 'Give the trust domain back to SPIRE',
      load: async () => (await import('./takeover-rollback.ts')).takeoverRollback
    }
  }
}
