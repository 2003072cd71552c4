import { type Differs, type Step, type StepRow, steps } from './step.ts'

type State = Readonly<Partial<Record<'active' | 'prepared' | 'old', { authorityId: string }>>>

const kinds = ['X509', 'JWT'] as const
const withId = (name: string) => (known: Readonly<Record<string, string>>) => ({ authorityId: known[name] })
const look = (kind: string, what: string): Step => ({
  method: `Get${kind}AuthorityState`, what,
  remember: (state: State) => Object.fromEntries((['active', 'prepared', 'old'] as const).map(name =>
    [`${kind} ${name}`, state[name]?.authorityId ?? '']))
})
const each = (kind: string, verbs: readonly string[], what: string, request?: Step['request'], differs?: Differs): Step[] =>
  steps('local', verbs.map(verb => [`${verb}${kind}Authority`, what, request, differs] as const))
const all = ['Activate', 'Taint', 'Revoke'] as const

/** spire-surface §1.8. What signed the server's own SVID is not revoked here: it renews itself at intervals. */
export const authoritySteps: readonly Step[] = [
  ...kinds.flatMap(kind => [
    look(kind, 'at first'),
    ...each(kind, all, 'no id, nothing prepared'),
    ...each(kind, all, 'an unknown id, nothing prepared', { authorityId: 'x' }),
    ...each(kind, all, 'the active one, nothing prepared', withId(`${kind} active`)),
    ...each(kind, ['Prepare'], 'one'),
    look(kind, 'prepared'),
    ...each(kind, all, 'no id, one prepared'),
    ...each(kind, all, 'an unknown id, one prepared', { authorityId: 'x' }),
    ...each(kind, all, 'the active one, one prepared', withId(`${kind} active`)),
    ...each(kind, ['Taint', 'Revoke'], 'the prepared one', withId(`${kind} prepared`)),
    ...each(kind, ['Activate'], 'the prepared one', withId(`${kind} prepared`)),
    look(kind, 'activated'),
    ...each(kind, all, 'an unknown id, one old', { authorityId: 'x' }),
    ...each(kind, all, 'the active one, one old', withId(`${kind} active`)),
    ...each(kind, ['Activate', 'Revoke'], 'the old one, untainted', withId(`${kind} old`)),
    ...each(kind, ['Taint'], 'the old one', withId(`${kind} old`), kind === 'JWT' ? ['OK', 'it says when the key ends'] : undefined),
    ...each(kind, ['Taint'], 'the old one again', withId(`${kind} old`), ['OK', 'a call that is repeated comes to the same']),
    look(kind, 'tainted')
  ]),
  ...steps('local', [
    ['TaintX509UpstreamAuthority', 'no id'],
    ['TaintX509UpstreamAuthority', 'without an upstream', { subjectKeyId: 'ab' }],
    ['RevokeX509UpstreamAuthority', 'no id'],
    ['RevokeX509UpstreamAuthority', 'without an upstream', { subjectKeyId: 'ab' }],
    ['GetWITAuthorityState', 'any'],
    ...['Prepare', 'Activate', 'Taint', 'Revoke'].map(verb => [`${verb}WITAuthority`, 'any'] as const),
    ['GetLogger', 'at first'],
    ['SetLogLevel', 'no level'],
    ['SetLogLevel', 'a level that is none', { newLevel: 99 }],
    ...[1, 2, 3, 4, 5, 6, 7].map((newLevel): StepRow => ['SetLogLevel', `level ${newLevel}`, { newLevel },
      newLevel === 1 ? ['OK', 'there is nothing above FATAL'] : undefined]),
    ['GetLogger', 'set'],
    ['ResetLogLevel', 'back']
  ])
]
