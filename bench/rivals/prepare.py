"""Fill the database of another program with its own code, and write its tokens.

    python -m bench.rivals.prepare NAME PASSWORD USERS TOKENS FILE

Arguments: the program, the password of its users, the number of users, the number of refresh tokens, and the file to
write. Each line of the file has an access token and a refresh token. This is a separate process because Django allows
only one application per process.
"""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from bench.ours import name_of


def textbook(password: str, users: int, tokens: int) -> Iterator[tuple[str, str]]:
    from flask_jwt_extended import create_access_token, create_refresh_token  # noqa: PLC0415 -- one program at a time

    from bench.rivals.textbook import User, db, hasher, make_app  # noqa: PLC0415 -- the same

    app = make_app()
    with app.app_context():
        if db.session.query(User).first() is None:
            hashed = hasher.hash(password)
            db.session.add_all([User(username=name_of(index), password_hash=hashed) for index in range(users)])
            db.session.commit()
        for index in range(tokens):
            name = name_of(index % users)
            yield create_access_token(name), create_refresh_token(name)


def simplejwt(password: str, users: int, tokens: int) -> Iterator[tuple[str, str]]:
    import bench.rivals.simplejwt  # noqa: F401, PLC0415, I001 -- it configures Django
    from django.contrib.auth.hashers import make_password  # noqa: PLC0415 -- after that
    from django.contrib.auth.models import User  # noqa: PLC0415 -- after that
    from django.core.management import call_command  # noqa: PLC0415 -- the same
    from rest_framework_simplejwt.token_blacklist.models import OutstandingToken  # noqa: PLC0415 -- the same
    from rest_framework_simplejwt.tokens import AccessToken, RefreshToken  # noqa: PLC0415 -- the same

    call_command("migrate", verbosity=0)
    if not User.objects.exists():
        # Use Django's hash: Django would replace one with a shorter salt at each user's first sign-in.
        hashed = make_password(password)
        drafts = [User(username=name_of(index), password=hashed) for index in range(users)]
        User.objects.bulk_create(drafts)
    people = list(User.objects.order_by("username"))
    rows = []
    for index in range(tokens):
        user = people[index % users]
        token = RefreshToken()
        token["user_id"] = str(user.pk)
        expires = datetime.fromtimestamp(token["exp"], UTC)
        rows.append(
            OutstandingToken(
                user=user, jti=token["jti"], token=str(token), created_at=datetime.now(UTC), expires_at=expires
            )
        )
        access = AccessToken.for_user(user)
        yield str(access), str(token)
    OutstandingToken.objects.bulk_create(rows, batch_size=1000)


def main() -> None:
    """Fill the database and write the tokens."""
    name, password, users, tokens, file = sys.argv[1:6]
    pairs = {"textbook": textbook, "simplejwt": simplejwt}[name](password, int(users), int(tokens))
    with Path(file).open("w") as out:
        out.writelines(f"{access} {refresh}\n" for access, refresh in pairs)


if __name__ == "__main__":
    main()
