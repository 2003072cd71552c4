import type { CommandGroup } from '../command.ts'

export const policyCommands: CommandGroup = {
  summary: 'Policies: who may do what, in versions that reach every agent as a whole',
  commands: {
    test: {
      summary: 'Run the tests that stand beside policies',
      load: async () => (await import('./policy-test.ts')).policyTest
    },
    lint: {
      summary: 'Find rules that never decide, or let in more than they seem to',
      load: async () => (await import('./policy-lint.ts')).policyLint
    },
    diff: {
      summary: 'Compare policy sets: documents, and by recorded requests whose answers change',
      load: async () => (await import('./policy-diff.ts')).policyDiff
    },
    apply: {
      summary: 'Make documents the active policies',
      load: async () => (await import('./policy-apply.ts')).policyApply
    },
    show: {
      summary: 'Show the active policies, or an older version',
      load: async () => (await import('./policy-show.ts')).policyShow
    },
    history: {
      summary: 'List the versions of the policies',
      load: async () => (await import('./policy-history.ts')).policyHistory
    },
    rollback: {
      summary: 'Go back to an older version of the policies',
      load: async () => (await import('./policy-rollback.ts')).policyRollback
    }
  }
}
