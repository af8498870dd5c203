/** A sentence for each port that several variables name; 0 (any free one) and unset variables do not count. */
export function sharedPorts(ports: Readonly<Record<string, number | undefined>>): string[] {
  const names = new Map<number, string[]>();
  for (const [name, port] of Object.entries(ports))
    if (port) names.set(port, [...(names.get(port) ?? []), name]);
  return [...names].flatMap(([port, sharing]) =>
    sharing.length > 1
      ? [`${sharing.join(' and ')} name the same port ${port}: give each a port of its own.`]
      : [],
  );
}
